//! A worker: a thread with its own runtime and store client, which serves connections.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::ServiceParts;
use crate::engine::{self, Engine};
use crate::grpc::{self, EnvoyService, Health};
use crate::http::{self, NodeState, WorkerState};
use crate::store::{CounterStore, Store};
use crate::telemetry::WorkerMetrics;
use crate::transport::ConnectionWorker;

/// Starts a worker. With `grpc` it also serves Envoy.
pub(super) fn start(
    number: usize,
    worker: ConnectionWorker,
    grpc: Option<(ConnectionWorker, Health)>,
    parts: Arc<ServiceParts>,
    shared: Arc<NodeState>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || runtime.block_on(run(worker, grpc, parts, shared)))
}

async fn run(
    worker: ConnectionWorker,
    grpc: Option<(ConnectionWorker, Health)>,
    parts: Arc<ServiceParts>,
    shared: Arc<NodeState>,
) {
    let store = match &parts.counter_store {
        CounterStore::Memory(memory) => Store::Memory(memory.clone()),
        CounterStore::Redis(redis) => Store::Redis(redis.open_client().await),
    };
    let metrics = WorkerMetrics::new(&parts.metrics);
    let mut observers = parts.observers.clone();
    observers.push(Arc::clone(&metrics) as _);
    let engine = Arc::new(Engine::new(engine::EngineParts {
        live: Arc::clone(&parts.live),
        directory: Arc::clone(&parts.directory),
        store: store.clone(),
        fallback: Arc::clone(&parts.fallback),
        metrics: Arc::clone(&metrics),
        observers,
        deadline: parts.settings.check_deadline,
        denial_memo: parts.settings.denial_memo.then_some(parts.settings.workers),
        reservations: Arc::clone(&parts.reservations),
    }));
    let envoy = parts.domains.as_ref().map(|domains| {
        Arc::new(EnvoyService {
            engine: Arc::clone(&engine),
            worker_metrics: Arc::clone(&metrics),
            metrics: Arc::clone(&parts.metrics),
            access: Arc::clone(&shared.access),
            draining: shared.draining.clone(),
            domains: Arc::clone(domains),
            on_store_failure: parts.settings.envoy_on_store_failure,
        })
    });
    drop(parts);
    let mut router = http::router(Arc::new(WorkerState { engine, metrics, shared }));
    if let Some(envoy) = &envoy {
        router = router.merge(grpc::http_router(Arc::clone(envoy)));
    }
    match (grpc, envoy) {
        (Some((grpc_worker, health)), Some(envoy)) => {
            let grpc = grpc_worker.run(grpc::router(envoy, &health));
            tokio::join!(worker.run(router), grpc);
        }
        _ => worker.run(router).await,
    }
    store.retire().await;
}

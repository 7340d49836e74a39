//! A worker: a thread with its own runtime and store client, which serves connections.

use std::sync::Arc;
use std::thread::JoinHandle;

use futures_util::future::OptionFuture;

use super::ServiceParts;
use super::listeners::WorkerConnections;
use crate::engine::{self, Engine};
use crate::grpc::{self, EnvoyService};
use crate::http::{self, NodeState, WorkerState};
use crate::store::{CounterStore, Store};
use crate::telemetry::WorkerMetrics;

/// Starts a worker.
pub(super) fn start(
    number: usize,
    connections: WorkerConnections,
    parts: Arc<ServiceParts>,
    shared: Arc<NodeState>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    parts.metrics.register_runtime(&runtime);
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || runtime.block_on(run(connections, parts, shared)))
}

async fn run(connections: WorkerConnections, parts: Arc<ServiceParts>, shared: Arc<NodeState>) {
    let store = match &parts.counter_store {
        CounterStore::Memory(memory) => Store::Memory(memory.clone()),
        CounterStore::Redis(redis) => Store::Redis(redis.open_client().await),
    };
    let metrics = WorkerMetrics::new(&parts.metrics);
    let mut observers = parts.observers.clone();
    observers.push(Arc::clone(&metrics) as _);
    observers.extend(parts.top.as_ref().map(|top| top.worker() as _));
    observers.extend(parts.recorder.as_ref().map(|recorder| recorder.worker(store.clone())));
    let engine = Arc::new(Engine::new(engine::EngineParts {
        live: Arc::clone(&parts.live),
        directory: Arc::clone(&parts.directory),
        store: store.clone(),
        fallback: Arc::clone(&parts.fallback),
        metrics: Arc::clone(&metrics),
        observers,
        tail: Arc::clone(&parts.tail),
        tracer: parts.tracer.clone(),
        deadline: parts.settings.check_deadline,
        denial_memo: parts.settings.denial_memo,
        reservations: Arc::clone(&parts.reservations),
        known_subjects: Arc::clone(&parts.known_subjects),
    }));
    // Of the workers the first one explains checks.
    let _is_set = parts.explainer.set(Arc::downgrade(&engine));
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
    let state = Arc::new(WorkerState { engine, metrics, shared });
    let ops = connections.ops.map(|ops| ops.run(http::ops_router(Arc::clone(&state))));
    let mut router = http::router(state);
    if let Some(envoy) = &envoy {
        router = router.merge(grpc::http_router(Arc::clone(envoy)));
    }
    let grpc = connections.grpc.zip(envoy);
    let grpc = grpc.map(|((grpc, health), envoy)| grpc.run(grpc::router(envoy, &health)));
    tokio::join!(connections.http.run(router), OptionFuture::from(grpc), OptionFuture::from(ops),);
    store.retire().await;
}

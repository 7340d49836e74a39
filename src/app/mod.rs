//! The service as a whole: build, listen, serve, drain, stop.
//!
//! The parts are put together here; checks are decided by `engine`. The main thread accepts
//! connections and sends heartbeats, workers serve checks, and the control thread does everything
//! whose cost grows with what is declared or stored.

mod banner;
mod encryption;
mod error;
mod last_save;
mod listeners;
mod record;
mod signals;
#[cfg(feature = "otel")]
mod traces;
#[cfg(not(feature = "otel"))]
#[path = "no_traces.rs"]
mod traces;
mod webhooks;
mod worker;

use std::sync::Arc;

pub use error::StartError;
use last_save::save_at_stop;
use listeners::Listeners;
use signals::Signals;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use traces::Traces;

use crate::admin::Explainer;
use crate::catalog::CounterPlacement;
use crate::control::{EditorFactory, KeyDirectory, LiveCatalog, LiveDomains, RegistrySync};
use crate::engine::{
    DecisionObserver, Fallback, KnownSubjects, NodeActivity, NodeReservations, Recorder, Tail,
    TopKeys,
};
use crate::grpc::Health;
use crate::http::NodeState;
use crate::settings::Settings;
use crate::store::{
    CounterStore, DataDir, EmbeddedRegistry, MemoryStore, Redis, RedisOptions, RedisUrl, Registry,
    StoreError,
};
use crate::telemetry::{LogThrottle, Metrics, Tracer};
use crate::time::SystemClock;
use crate::tls::ServerTls;
use crate::transport::{CallerAccess, DrainFlag};
use crate::webhook::Webhooks;

/// The parts that all workers share.
struct ServiceParts {
    live: Arc<LiveCatalog>,
    /// Envoy's domains, if they are configured.
    domains: Option<Arc<LiveDomains>>,
    directory: Arc<KeyDirectory>,
    sync: Arc<RegistrySync>,
    editors: EditorFactory,
    /// The runtime of the control thread.
    control: Handle,
    fallback: Arc<Fallback>,
    reservations: Arc<NodeReservations>,
    known_subjects: Arc<KnownSubjects>,
    metrics: Arc<Metrics>,
    /// The keys that are refused most and use most, unless they are not counted.
    top: Option<Arc<TopKeys>>,
    /// Those who watch decisions.
    tail: Arc<Tail>,
    /// Begins spans, if traces are exported.
    tracer: Option<Arc<Tracer>>,
    /// The recorder, if decisions are recorded.
    recorder: Option<Arc<Recorder>>,
    /// The rates and latencies of checks, and the node's state.
    activity: Arc<NodeActivity>,
    settings: Settings,
    counter_store: CounterStore,
    /// The engine of the worker that runs first.
    explainer: Explainer,
    /// The observers of the decisions of all workers.
    observers: Vec<Arc<dyn DecisionObserver>>,
}

/// Serves until a signal stops it, and returns when all requests in flight have responses.
///
/// # Errors
/// If something is missing that is needed at startup, or Redis cannot be used as it is configured.
/// A Redis that is only unreachable is connected to as soon as it can be.
pub fn serve(settings: Settings) -> Result<(), StartError> {
    let metrics = Arc::new(Metrics::new());
    let placement = counter_placement(settings.store.reveal(), settings.record.is_some())?;
    let live = LiveCatalog::load(settings.catalog.clone(), placement, Arc::clone(&metrics))?;
    let live = Arc::new(live);
    let domains = load_domains(&settings, &metrics)?;
    let (recorder, recorder_thread) = record::open_recorder(&settings)?.unzip();
    let data_dir = open_data_dir(&settings, &metrics)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    metrics.register_runtime(&runtime);
    let control = control_runtime(&metrics)?;
    let traces = Traces::start(control.handle(), &metrics)?;
    let counter_store =
        open_counter_store(&settings, data_dir.as_ref(), &metrics, runtime.handle(), &traces)?;
    let local = MemoryStore::with_ceiling(Arc::new(SystemClock), settings.max_memory_rows);
    let redis = match &counter_store {
        CounterStore::Redis(redis) => Some(Arc::clone(redis)),
        CounterStore::Memory(_) => None,
    };
    let fallback = Arc::new(Fallback::new(local.clone(), redis));
    let registry = open_registry(data_dir.as_ref(), &counter_store)?;
    let directory = Arc::new(KeyDirectory::new(registry.clone()));
    let sync =
        Arc::new(RegistrySync::new(registry.clone(), Arc::clone(&live), Arc::clone(&directory)));
    let seal = Arc::new(encryption::open_seal(&settings, data_dir.as_ref())?);
    let editors = EditorFactory::new(registry, Arc::clone(&live), Arc::clone(&sync), seal);
    let activity = NodeActivity::new(&settings, Arc::clone(&metrics));
    let webhooks = control.block_on(async {
        webhooks::start(&settings, data_dir.as_ref(), &counter_store, &metrics, &activity)
    })?;
    let thresholds = webhooks.as_ref().map(|webhooks| webhooks.thresholds() as _);
    let observers: Vec<Arc<dyn DecisionObserver>> = thresholds.into_iter().collect();
    let parts = Arc::new(ServiceParts {
        live,
        domains,
        directory,
        sync,
        editors,
        control: control.handle().clone(),
        fallback,
        reservations: Arc::default(),
        known_subjects: Arc::new(KnownSubjects::beside(&counter_store)),
        explainer: Arc::default(),
        top: (settings.top_keys > 0).then(|| TopKeys::new(settings.top_keys)),
        tail: Arc::default(),
        tracer: traces.tracer(),
        recorder: recorder.map(Arc::new),
        activity,
        metrics,
        settings,
        counter_store,
        observers,
    });
    let served = runtime.block_on(run(&parts, local, webhooks, traces));
    // No save may be in progress beside the last one.
    drop(control);
    let result = served.and(save_at_stop(&parts.counter_store));
    drop(parts);
    if let Some(thread) = recorder_thread {
        let _panicked = thread.join();
    }
    result
}

/// The control thread: a runtime of its own for the admin API, the registry's sync, the watch of
/// files, the sweep of counters and webhooks. It may be busy for long; connections, heartbeats and
/// checks do not wait for it. One thread also bounds what administration takes of the machine.
fn control_runtime(metrics: &Metrics) -> std::io::Result<Runtime> {
    let mut control = Builder::new_multi_thread();
    let control = control.worker_threads(1).thread_name("control").enable_all().build()?;
    metrics.register_runtime(&control);
    Ok(control)
}

/// Envoy's domains, if they are configured.
fn load_domains(
    settings: &Settings,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<LiveDomains>>, StartError> {
    let Some(path) = settings.envoy_config.clone() else { return Ok(None) };
    Ok(Some(Arc::new(LiveDomains::load(path, Arc::clone(metrics))?)))
}

/// The data directory, if there is one.
fn open_data_dir(
    settings: &Settings,
    metrics: &Arc<Metrics>,
) -> Result<Option<DataDir>, StartError> {
    let Some(folder) = &settings.data_dir else { return Ok(None) };
    let opened = DataDir::open(folder, Arc::clone(metrics));
    opened.map(Some).map_err(StartError::DataDir)
}

/// Opens the registry beside the counters: in Redis, in the data directory, or in memory.
fn open_registry(
    data_dir: Option<&DataDir>,
    counters: &CounterStore,
) -> Result<Registry, StartError> {
    if let CounterStore::Redis(redis) = counters {
        return Ok(Registry::Redis(Arc::clone(redis)));
    }
    let registry = match data_dir {
        None => EmbeddedRegistry::in_memory(),
        Some(dir) => EmbeddedRegistry::open(dir).map_err(StartError::DataDir)?,
    };
    Ok(Registry::Embedded(Arc::new(registry)))
}

/// The placement of counters in a store, by its address. With a record nothing is leased.
///
/// # Errors
/// If the address is invalid.
pub fn counter_placement(store: &str, records: bool) -> Result<CounterPlacement, StartError> {
    if store == "memory" || !store.parse::<RedisUrl>()?.is_cluster() {
        return Ok(CounterPlacement::Together);
    }
    Ok(CounterPlacement::PerSubject { leases: !records })
}

fn open_counter_store(
    settings: &Settings,
    data_dir: Option<&DataDir>,
    metrics: &Arc<Metrics>,
    runtime: &Handle,
    traces: &Traces,
) -> Result<CounterStore, StartError> {
    if settings.store.is_memory() {
        let (clock, max_rows) = (Arc::new(SystemClock), settings.max_memory_rows);
        let memory = match data_dir {
            None => MemoryStore::with_ceiling(clock, max_rows),
            Some(dir) => MemoryStore::open(dir, clock, max_rows).map_err(StartError::DataDir)?,
        };
        return Ok(CounterStore::Memory(memory));
    }
    let options = RedisOptions {
        url: settings.store.reveal().parse()?,
        ca_file: settings.redis_ca.clone(),
        deadline: settings.check_deadline,
        min_nodes: settings.min_nodes,
        // A lease belongs to no check, so a record with leases could not be replayed.
        leases: settings.record.is_none(),
        repeats_refusals: settings.denial_memo,
        start_without_store: settings.start_without_store,
        runtime: runtime.clone(),
    };
    let observer = traces.tracer().map(|tracer| tracer as _);
    Ok(CounterStore::Redis(Redis::new(&options, Arc::clone(metrics), observer)?))
}

async fn run(
    parts: &Arc<ServiceParts>,
    local: MemoryStore,
    webhooks: Option<Webhooks>,
    traces: Traces,
) -> Result<(), StartError> {
    let signals = Signals::install()?;
    raise_open_file_limit();
    start_store_tasks(parts, local).await?;
    let draining = DrainFlag::default();
    let access = CallerAccess {
        check_token: parts.settings.check_token.clone(),
        trusted_peers: parts.settings.trusted_peers.clone(),
    };
    let shared = Arc::new(NodeState {
        access: Arc::new(access),
        forwarded_headers: parts.settings.forwarded_headers,
        metrics: Arc::clone(&parts.metrics),
        gateway_warning: LogThrottle::default(),
        draining: draining.clone(),
    });
    let mut listeners = Listeners::open(parts, &draining)?;
    let workers = (0..parts.settings.workers)
        .map(|number| {
            let connections = listeners.worker();
            worker::start(number, connections, Arc::clone(parts), Arc::clone(&shared))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let first_refresh = parts.control.spawn(Arc::clone(&parts.sync).refresh_once());
    let _panicked = first_refresh.await;
    parts.control.spawn(Arc::clone(&parts.sync).refresh_forever());
    let reload = watch_files(parts, listeners.tls());
    let addresses = listeners.addresses();
    banner::print_banner(&addresses, &parts.settings, parts.live.serves_example());
    let health = listeners.health();
    let announced = announce_when_ready(parts, health.clone()).await;
    let stop = async {
        let urgent = signals.wait_for_stop(reload).await;
        draining.set();
        announced.abort();
        health.set_serving(false).await;
        if !urgent {
            tracing::info!("draining: not ready, and stopping in {:?}", parts.settings.drain_delay);
            tokio::time::sleep(parts.settings.drain_delay).await;
        }
    };
    listeners.serve(stop).await;
    if let CounterStore::Redis(redis) = &parts.counter_store {
        redis.leave().await;
    }
    for worker in workers {
        let _panicked = tokio::task::spawn_blocking(move || worker.join()).await;
    }
    if let Some(webhooks) = webhooks {
        webhooks.stop().await;
    }
    traces.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Sets gRPC's health to serving once the store could be used.
async fn announce_when_ready(parts: &ServiceParts, health: Health) -> JoinHandle<()> {
    health.set_serving(false).await;
    let counters = parts.counter_store.clone();
    tokio::spawn(async move {
        if let CounterStore::Redis(redis) = &counters {
            redis.wait_until_reached().await;
        }
        health.set_serving(true).await;
    })
}

/// Connects to Redis and starts the background tasks of the store.
///
/// # Errors
/// If Redis can be reached and cannot be used as it is configured.
async fn start_store_tasks(parts: &ServiceParts, local: MemoryStore) -> Result<(), StartError> {
    if let Some(top) = &parts.top {
        parts.control.spawn(Arc::clone(top).run(parts.counter_store.clone()));
    }
    parts.control.spawn(Arc::clone(&parts.tail).log_refusals(parts.settings.log_refusals));
    parts.control.spawn(Arc::clone(&parts.activity).run(parts.counter_store.clone()));
    let metrics = Arc::clone(&parts.metrics);
    let max_rows = i64::try_from(parts.settings.max_memory_rows);
    metrics.max_memory_rows.set(max_rows.unwrap_or(i64::MAX));
    let rows = move |rows| metrics.memory_rows.set(i64::try_from(rows).unwrap_or(i64::MAX));
    match &parts.counter_store {
        CounterStore::Memory(memory) => {
            parts.control.spawn(memory.clone().sweep_forever(rows));
            parts.control.spawn(memory.clone().save_forever());
        }
        CounterStore::Redis(redis) => {
            match redis.probe_at_startup().await {
                Ok(()) => {}
                Err(error @ StoreError::Misconfigured(_)) => return Err(StartError::Redis(error)),
                Err(error) => {
                    tracing::warn!(%error, "Redis cannot be used yet; until it is, plans decide by on_store_failure, and this node is not ready unless start_without_store is true");
                }
            }
            tokio::spawn(Arc::clone(redis).run());
            parts.control.spawn(local.sweep_forever(rows));
        }
    }
    Ok(())
}

/// Watches all files that are reloaded after a change. Returns a function that reloads all of them,
/// and opens the record again.
fn watch_files(parts: &ServiceParts, tls: Vec<Arc<ServerTls>>) -> impl Fn() + Clone + use<> {
    let (live, domains) = (Arc::clone(&parts.live), parts.domains.clone());
    parts.control.spawn(Arc::clone(&live).watch());
    if let Some(domains) = &domains {
        parts.control.spawn(Arc::clone(domains).watch());
    }
    for tls in &tls {
        parts.control.spawn(Arc::clone(tls).watch());
    }
    let recorder = parts.recorder.clone();
    move || {
        if let Some(recorder) = &recorder {
            recorder.reopen();
        }
        live.reload();
        if let Some(domains) = &domains {
            domains.reload();
        }
        for tls in &tls {
            tls.reload();
        }
    }
}

/// Raises the limit of open files as far as the system allows: each connection is one.
fn raise_open_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

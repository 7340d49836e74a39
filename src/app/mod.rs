//! The service as a whole: build, listen, serve, drain, stop.
//!
//! Nothing is decided here; this is where the parts meet.

pub mod client;
mod signals;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use signals::Signals;
use tokio::sync::watch;

use crate::admin::{self, Admin};
use crate::control::{Directory, Editor, Live, Sync};
use crate::engine::{self, Engine, Fallback, Recorder};
use crate::http::{self, Listener, Node, Server, Shared, Worker};
use crate::settings::Settings;
use crate::store::{Embedded, Memory, Redis, RedisOptions, Registry, Store};
use crate::telemetry::{Metrics, WorkerMetrics};
use crate::time::SystemClock;

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The catalog file cannot be used.
    #[error("{0}")]
    Catalog(#[from] crate::control::Unusable),
    /// The store's address cannot be used.
    #[error("setting `store`: {0}")]
    Store(#[from] crate::store::InvalidUrl),
    /// The address is taken or not ours.
    #[error("cannot listen on {0}: {1}; choose another with --listen")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// The data directory cannot be used.
    #[error("cannot use the data directory {path}: {why}", path = .0.display(), why = .1)]
    DataDir(std::path::PathBuf, #[source] crate::store::Unopened),
    /// The record cannot be written.
    #[error("cannot write the record {path}: {why}", path = .0.display(), why = .1)]
    Record(std::path::PathBuf, #[source] std::io::Error),
    /// No thread or runtime could be made.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Connections of the admin API open at the same time.
const MAX_ADMIN_CONNECTIONS: usize = 256;

/// What the engines of all workers are made from.
struct Parts {
    live: Arc<Live>,
    directory: Arc<Directory>,
    sync: Arc<Sync>,
    editor: Arc<Editor>,
    fallback: Arc<Fallback>,
    metrics: Arc<Metrics>,
    recorder: Option<Recorder>,
    settings: Settings,
    counts: Counts,
}

/// Where limits are counted.
#[derive(Clone)]
enum Counts {
    Memory(Memory),
    Redis(Arc<Redis>),
}

/// Serves until a signal says to stop, and returns once everything in flight is answered.
///
/// # Errors
/// Where something that is needed from the start is not there. Redis is not: a store that cannot
/// be reached is waited for while serving.
pub fn serve(settings: Settings) -> Result<(), Failure> {
    let metrics = Arc::new(Metrics::new());
    let live = Arc::new(Live::load(settings.catalog.clone(), Arc::clone(&metrics))?);
    let (recorder, record) = match &settings.record {
        None => (None, None),
        Some(path) => {
            let opened = Recorder::open(path).map_err(|why| Failure::Record(path.clone(), why))?;
            (Some(opened.0), Some(opened.1))
        }
    };
    let counts = counts(&settings, &metrics)?;
    let local = Memory::new(Arc::new(SystemClock));
    let redis = match &counts {
        Counts::Redis(redis) => Some(Arc::clone(redis)),
        Counts::Memory(_) => None,
    };
    let fallback = Arc::new(Fallback::new(local.clone(), redis));
    let registry = match &counts {
        Counts::Redis(redis) => Registry::Redis(Arc::clone(redis)),
        Counts::Memory(_) => Registry::Embedded(Arc::new(match &settings.data_dir {
            None => Embedded::in_memory(),
            Some(folder) => {
                Embedded::open(folder).map_err(|why| Failure::DataDir(folder.clone(), why))?
            }
        })),
    };
    let directory = Arc::new(Directory::new(registry.clone()));
    let sync = Arc::new(Sync::new(registry.clone(), Arc::clone(&live), Arc::clone(&directory)));
    let editor = Arc::new(Editor::new(registry, Arc::clone(&live), Arc::clone(&sync)));
    let parts = Arc::new(Parts {
        live,
        directory,
        sync,
        editor,
        fallback,
        metrics,
        recorder,
        settings,
        counts,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(run(&parts, local));
    drop(parts);
    if let Some(thread) = record {
        let _panicked = thread.join();
    }
    served
}

fn counts(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Counts, Failure> {
    if settings.store.is_memory() {
        return Ok(Counts::Memory(Memory::new(Arc::new(SystemClock))));
    }
    let options = RedisOptions {
        url: settings.store.reveal().parse()?,
        ca_file: settings.redis_ca.clone(),
        deadline: settings.check_deadline,
        min_nodes: settings.min_nodes,
        // What is charged ahead belongs to no check, so a record could not be replayed.
        leases: settings.record.is_none(),
    };
    Ok(Counts::Redis(Redis::new(&options, Arc::clone(metrics))?))
}

async fn run(parts: &Arc<Parts>, local: Memory) -> Result<(), Failure> {
    let signals = Signals::install()?;
    raise_open_files();
    let metrics = Arc::clone(&parts.metrics);
    let rows = move |rows| metrics.memory_rows.set(i64::try_from(rows).unwrap_or(i64::MAX));
    match &parts.counts {
        Counts::Memory(memory) => {
            tokio::spawn(memory.clone().sweep_forever(rows));
        }
        Counts::Redis(redis) => {
            if let Err(error) = redis.first_contact().await {
                tracing::warn!(%error, "Redis cannot be reached yet; plans decide by on_store_failure until it is");
            }
            tokio::spawn(Arc::clone(redis).run_heartbeat());
            tokio::spawn(local.sweep_forever(rows));
        }
    }
    let shared = Arc::new(Shared {
        check_token: parts.settings.check_token.clone(),
        trusted_peers: parts.settings.trusted_peers.clone(),
        forwarded_headers: parts.settings.forwarded_headers,
        metrics: Arc::clone(&parts.metrics),
        draining: AtomicBool::new(false),
    });
    let address = parts.settings.listen;
    let listener = Listener::bind(address).map_err(|why| Failure::Listen(address, why))?;
    let mut server = Server::new(parts.settings.max_connections, Arc::clone(&shared));
    let admin = admin(parts, &shared)?;
    let workers = (0..parts.settings.workers)
        .map(|number| start(number, server.worker(), Arc::clone(parts), Arc::clone(&shared)))
        .collect::<Result<Vec<_>, _>>()?;
    if let Err(error) = parts.sync.look().await {
        tracing::debug!(%error, "what the API declares is not known yet");
    }
    tokio::spawn(Arc::clone(&parts.sync).look_forever());
    tokio::spawn(Arc::clone(&parts.live).watch());
    greet(&listener, admin.as_ref(), &parts.settings);
    let stop = async {
        let urgent = signals.obey(Arc::clone(&parts.live)).await;
        shared.draining.store(true, Ordering::Relaxed);
        if !urgent {
            tracing::info!("draining: not ready, and stopping in {:?}", parts.settings.drain_delay);
            tokio::time::sleep(parts.settings.drain_delay).await;
        }
    };
    let (stopped, mut stopping) = watch::channel(());
    if let Some((listener, server)) = admin {
        tokio::spawn(server.run(listener, async move { drop(stopping.changed().await) }));
    }
    server.run(listener, stop).await;
    drop(stopped);
    if let Counts::Redis(redis) = &parts.counts {
        redis.leave().await;
    }
    for worker in workers {
        let _panicked = tokio::task::spawn_blocking(move || worker.join()).await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// The admin API's listener, where there is a credential for it. It has no worker of its own: few
/// ask, and none of them waits for a check.
fn admin(parts: &Parts, shared: &Arc<Shared>) -> Result<Option<(Listener, Server)>, Failure> {
    if !parts.settings.admin.are_set() {
        return Ok(None);
    }
    let address = parts.settings.listen_admin;
    let listener = Listener::bind(address).map_err(|why| Failure::Listen(address, why))?;
    let mut server = Server::new(MAX_ADMIN_CONNECTIONS, Arc::clone(shared));
    let failures = Memory::new(Arc::new(SystemClock));
    tokio::spawn(failures.clone().sweep_forever(|_| ()));
    let admin = Admin::new(Arc::clone(&parts.editor), parts.settings.admin.clone(), failures);
    tokio::spawn(server.worker().run(admin::router(admin)));
    Ok(Some((listener, server)))
}

/// Starts a worker: a thread with a runtime and a connection to the store of its own.
fn start(
    number: usize,
    worker: Worker,
    parts: Arc<Parts>,
    shared: Arc<Shared>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        runtime.block_on(async move {
            let store = match &parts.counts {
                Counts::Memory(memory) => Store::Memory(memory.clone()),
                Counts::Redis(redis) => Store::Redis(redis.lane().await),
            };
            let metrics = WorkerMetrics::new(&parts.metrics);
            let engine = Engine::new(engine::Parts {
                live: Arc::clone(&parts.live),
                directory: Arc::clone(&parts.directory),
                store,
                fallback: Arc::clone(&parts.fallback),
                metrics: Arc::clone(&metrics),
                recorder: parts.recorder.clone(),
                deadline: parts.settings.check_deadline,
                denial_memo: parts.settings.denial_memo.then_some(parts.settings.workers),
            });
            drop(parts);
            let store = engine.store().clone();
            worker.run(http::router(Arc::new(Node { engine, metrics, shared }))).await;
            store.retire().await;
        });
    })
}

/// As many connections as the system allows: each is an open file.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Says on standard output where it listens and what to try.
fn greet(listener: &Listener, admin: Option<&(Listener, Server)>, settings: &Settings) {
    let url = format!("http://{}", listener.address());
    let store = if settings.store.is_memory() { "this process's memory" } else { "Redis" };
    let (catalog, key) = match &settings.catalog {
        None => ("the built-in example, whose API key is demo-key".to_owned(), "demo-key"),
        Some(file) => (file.display().to_string(), "YOUR-API-KEY"),
    };
    let request = match &settings.catalog {
        None => format!(
            r#"{{"api_key":"{key}","api":"inference","stage":"prod","method":"POST","path":"/v1/chat/completions"}}"#
        ),
        Some(_) => format!(r#"{{"api_key":"{key}"}}"#),
    };
    let admin = admin.map_or_else(String::new, |(listener, _)| {
        format!("  admin API on http://{}\n", listener.address())
    });
    let version = env!("CARGO_PKG_VERSION");
    let _nobody_reads = writeln!(
        std::io::stdout(),
        "tollgate {version} listening on {url}\n  limits are counted in {store}\n  catalog: {catalog}\n{admin}  try: curl -i {url}/check -d '{request}'",
    );
}

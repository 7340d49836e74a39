//! The HTTP server: one acceptor distributes connections to workers, each a single-threaded
//! runtime.
//!
//! A runtime per core needs no locks between cores, and the checks of a worker share its connection
//! to the store. `axum::serve` is not used: it sets no timeouts, so a slow client could hold a
//! connection forever. Requests are handled by the router, encryption by `tls`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tower_service::Service as _;

use super::access::Peer;
use super::body::{BodyLimits, ConnectionBodies, LimitedBody, ListenerBodies};
use super::caller_ids::{X_REQUEST_ID, request_id};
use super::connection_limit::ConnectionLimit;
use super::framing::check_framing;
use super::listener::Listener;
use super::monitored::MonitoredStream;
use super::monitored_body::MonitoredBody;
use super::open_connections::{Activity, OpenConnections, TICK};
use super::protocol::Protocol;
use crate::telemetry::{LogThrottle, Metrics};
use crate::tls::ServerTls;

/// The timeout for requests in flight once the listener is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The backoff after a failed accept: at once it would fail again, usually for lack of file
/// descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// An accepted connection and its permit under the connection limit.
struct AcceptedConnection {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    activity: Arc<Activity>,
    permit: OwnedSemaphorePermit,
}

/// The acceptor's handle to a worker.
struct WorkerHandle {
    queue: mpsc::UnboundedSender<AcceptedConnection>,
    load: Arc<AtomicUsize>,
    connections: Arc<OpenConnections>,
}

/// A flag that is set when the node stops; HTTP/1.1 connections are closed after their next
/// response.
#[derive(Clone, Default)]
pub struct DrainFlag(Arc<AtomicBool>);

impl DrainFlag {
    /// Begins to drain.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns true once the node is draining.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The properties of a server.
pub struct ServerOptions {
    /// The flag of the listener, which names it in logs.
    pub flag: &'static str,
    /// The protocol of its connections.
    pub protocol: Protocol,
    /// The most concurrent connections. At the limit, each further one closes the idlest.
    pub max_connections: usize,
    /// The limits of request bodies.
    pub bodies: BodyLimits,
    /// Without it connections are not encrypted.
    pub tls: Option<Arc<ServerTls>>,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// Set while the node stops.
    pub draining: DrainFlag,
}

/// The configuration that all connections of a server share.
#[derive(Clone)]
struct ConnectionConfig {
    protocol: Protocol,
    tls: Option<Arc<ServerTls>>,
    bodies: Arc<ListenerBodies>,
    metrics: Arc<Metrics>,
    draining: DrainFlag,
}

/// Accepts connections and distributes them to workers.
pub struct HttpServer {
    workers: Vec<WorkerHandle>,
    limit: ConnectionLimit,
    shutdown: watch::Sender<bool>,
    config: ConnectionConfig,
    accepted: AtomicU64,
    accept_warning: LogThrottle,
}

impl HttpServer {
    /// A server without workers.
    #[must_use]
    pub fn new(options: ServerOptions) -> Self {
        let ServerOptions { flag, protocol, max_connections, bodies, tls, metrics, draining } =
            options;
        let bodies = Arc::new(ListenerBodies::new(bodies));
        Self {
            workers: Vec::new(),
            limit: ConnectionLimit::new(flag, max_connections, Arc::clone(&metrics)),
            shutdown: watch::Sender::new(false),
            config: ConnectionConfig { protocol, tls, bodies, metrics, draining },
            accepted: AtomicU64::new(0),
            accept_warning: LogThrottle::default(),
        }
    }

    /// The TLS configuration of the server's connections.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<ServerTls>> {
        self.config.tls.as_ref()
    }

    /// Adds a worker, to be run on a runtime of its own.
    pub fn add_worker(&mut self) -> ConnectionWorker {
        let (queue, accepted) = mpsc::unbounded_channel();
        let load = Arc::new(AtomicUsize::new(0));
        let connections = Arc::new(OpenConnections::new(self.config.protocol == Protocol::Http2));
        self.limit.watch_worker(Arc::clone(&connections));
        self.workers.push(WorkerHandle {
            queue,
            load: Arc::clone(&load),
            connections: Arc::clone(&connections),
        });
        let shutdown = self.shutdown.subscribe();
        // A copy of the worker's own: its reference count is not shared between cores.
        let config = Arc::new(self.config.clone());
        ConnectionWorker { accepted, load, connections, shutdown, config }
    }

    /// Accepts until `stop` resolves, then closes the listener and waits for the requests in
    /// flight.
    pub async fn run(self, listener: Listener, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = self.accept(listener.socket()) => {}
            }
        }
        drop(listener);
        self.shutdown.send_replace(true);
        drop(self.workers);
        self.limit.wait_until_all_closed().await;
    }

    async fn accept(&self, listener: &TcpListener) {
        let permit = self.limit.permit().await;
        match listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            Ok((stream, peer)) => {
                self.limit.make_room();
                let serial = self.accepted.fetch_add(1, Ordering::Relaxed);
                // Of equally loaded workers each gets a connection in turn.
                let start = serial % self.workers.len().max(1) as u64;
                let (before, after) = self.workers.split_at(usize::try_from(start).unwrap_or(0));
                let workers = after.iter().chain(before);
                let least_loaded = workers.min_by_key(|worker| worker.load.load(Ordering::Relaxed));
                if let Some(worker) = least_loaded {
                    worker.load.fetch_add(1, Ordering::Relaxed);
                    let activity = worker.connections.insert(serial);
                    let accepted = AcceptedConnection { stream, peer, activity, permit };
                    let _worker_gone = worker.queue.send(accepted);
                }
            }
            Err(error) => {
                if self.accept_warning.is_due() {
                    tracing::warn!(%error, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// Serves the connections that the acceptor assigns to one worker.
pub struct ConnectionWorker {
    accepted: mpsc::UnboundedReceiver<AcceptedConnection>,
    load: Arc<AtomicUsize>,
    connections: Arc<OpenConnections>,
    shutdown: watch::Receiver<bool>,
    config: Arc<ConnectionConfig>,
}

impl ConnectionWorker {
    /// Serves connections until the server has closed and all of them have ended, or until
    /// `DRAIN_TIMEOUT` after it.
    pub async fn run(mut self, router: Router) {
        let mut tasks = JoinSet::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = self.accepted.recv() => match accepted {
                    Some(accepted) => self.serve(accepted, router.clone(), &mut tasks),
                    None => break,
                },
                // Nothing has a time limit while no connection is open, so an idle worker sleeps.
                _ = ticks.tick(), if !tasks.is_empty() => {
                    for end in self.connections.tick() {
                        self.config.metrics.record_connection_end(end);
                    }
                }
            }
            while tasks.try_join_next().is_some() {}
        }
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, ended).await.is_err() {
            tracing::warn!(
                "some connections were still open after {DRAIN_TIMEOUT:?} and are closed"
            );
        }
    }

    /// Starts the task of a connection.
    fn serve(&self, accepted: AcceptedConnection, router: Router, tasks: &mut JoinSet<()>) {
        let AcceptedConnection { stream, peer, activity, permit } = accepted;
        let connection = Connection {
            peer: Peer(peer.ip().to_canonical()),
            activity: Arc::clone(&activity),
            bodies: Arc::new(ConnectionBodies::new(Arc::clone(&self.config.bodies))),
            config: Arc::clone(&self.config),
        };
        self.config.metrics.connections.inc();
        let guard = ConnectionGuard {
            activity: Arc::clone(&activity),
            connections: Arc::clone(&self.connections),
            load: Arc::clone(&self.load),
            metrics: Arc::clone(&self.config.metrics),
            _permit: permit,
        };
        let shutdown = self.shutdown.clone();
        // The guard is the task's: it is dropped also if the connection is closed from outside.
        let task = tasks.spawn(async move {
            let _guard = guard;
            connection.serve(stream, router, shutdown).await;
        });
        self.connections.set_task(&activity, task);
    }
}

/// Undoes what counts a connection, once it has ended.
struct ConnectionGuard {
    activity: Arc<Activity>,
    connections: Arc<OpenConnections>,
    load: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.remove(&self.activity);
        self.metrics.connections.dec();
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection.
struct Connection {
    peer: Peer,
    activity: Arc<Activity>,
    bodies: Arc<ConnectionBodies>,
    config: Arc<ConnectionConfig>,
}

impl Connection {
    async fn serve(
        &self,
        stream: std::net::TcpStream,
        router: Router,
        shutdown: watch::Receiver<bool>,
    ) {
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        let _slower_without = stream.set_nodelay(true);
        match &self.config.tls {
            None => self.serve_http(stream, router, shutdown).await,
            Some(tls) => {
                if let Ok(stream) = tls.accept(stream).await {
                    self.serve_http(stream, router, shutdown).await;
                }
            }
        }
    }

    async fn serve_http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        router: Router,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let service = service_fn(|request: Request<Incoming>| {
            let pending = self.activity.begin_request();
            let head_bytes = self.config.protocol.unfinished_head_bytes();
            let mut request = request.map(|body| {
                Body::new(LimitedBody::new(body, Arc::clone(&self.bodies), head_bytes))
            });
            request.extensions_mut().insert(self.peer);
            let request_id = request_id(request.headers()).cloned();
            let framing = check_framing(&request);
            let is_ambiguous = framing.is_err();
            let response = framing.map(|()| router.clone().call(request));
            let config = Arc::clone(&self.config);
            let is_http_2 = config.protocol == Protocol::Http2;
            let activity = is_http_2.then(|| Arc::clone(&self.activity));
            async move {
                let mut response = match response {
                    Ok(response) => response.await?,
                    Err(problem) => problem.into_response(),
                };
                // HTTP/2 announces it once, for the whole connection. After an ambiguous request,
                // the next bytes could be its body to a gateway in front, so no request is read
                // from them.
                let is_last = is_ambiguous || config.draining.is_set();
                if config.protocol == Protocol::Http1 && is_last {
                    response
                        .headers_mut()
                        .insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                if let Some(id) = request_id {
                    response.headers_mut().insert(X_REQUEST_ID, id);
                }
                drop(pending);
                let response = response.map(|body| MonitoredBody::new(body, activity));
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let builder = self.config.protocol.connection_builder();
        let stream = MonitoredStream::new(stream, Arc::clone(&self.activity));
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let result = tokio::select! {
            result = &mut connection => result,
            () = shutdown_requested(&mut shutdown) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// Resolves when the server closes.
async fn shutdown_requested(shutdown: &mut watch::Receiver<bool>) {
    let _shutdown_or_gone = shutdown.wait_for(|shutdown| *shutdown).await;
}

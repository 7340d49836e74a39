//! The HTTP server: one acceptor distributes connections to workers, each a single-threaded
//! runtime.
//!
//! A runtime per core needs no locks between cores, and the checks of a worker share its connection
//! to the store. `axum::serve` is not used: it sets no timeouts, so a slow client could hold a
//! connection forever. Requests are handled by the router, encryption by `tls`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tower_service::Service as _;

use super::access::Peer;
use super::framing::check_framing;
use super::listener::Listener;
use crate::telemetry::Metrics;
use crate::tls::ServerTls;

/// The timeout for reading a request head, and the longest time that a connection may be idle.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest request head in bytes; a larger one gets a 431 response.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The largest header list of an HTTP/2 request, in bytes.
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// The most header lines; a request with more gets a 431 response.
const MAX_HEADERS: usize = 100;
/// The timeout for requests in flight once the listener is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The most concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 1_024;
/// The idle time after which an HTTP/2 peer is sent a keep-alive ping.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// The timeout for the response to a keep-alive ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause after a failed accept: at once it would fail again, usually for lack of file
/// descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// The protocol of a server's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge, as gRPC uses it.
    Http2,
}

impl Protocol {
    /// The protocol's ALPN name, for the TLS handshake.
    #[must_use]
    pub const fn alpn_name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }

    fn connection_builder(self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            // Responses are short: head and body are copied into one buffer.
            .writev(false);
        builder
            .http2()
            .timer(TokioTimer::new())
            // gRPC clients do not use the date.
            .auto_date_header(false)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        match self {
            Self::Http1 => builder.http1_only(),
            Self::Http2 => builder.http2_only(),
        }
    }
}

/// An accepted connection and its permit under the connection limit.
struct AcceptedConnection {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
}

/// The acceptor's handle to a worker.
struct WorkerHandle {
    queue: mpsc::UnboundedSender<AcceptedConnection>,
    load: Arc<AtomicUsize>,
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

/// The configuration that all connections of a server share.
#[derive(Clone)]
struct ConnectionConfig {
    protocol: Protocol,
    tls: Option<Arc<ServerTls>>,
    metrics: Arc<Metrics>,
    draining: DrainFlag,
}

/// Accepts connections and distributes them to workers.
pub struct HttpServer {
    workers: Vec<WorkerHandle>,
    permits: Arc<Semaphore>,
    max_connections: usize,
    shutdown: watch::Sender<bool>,
    config: ConnectionConfig,
    next_worker: AtomicUsize,
}

impl HttpServer {
    /// A server without workers, for at most `max_connections` concurrent connections; they are
    /// encrypted if `tls` is given.
    #[must_use]
    pub fn new(
        protocol: Protocol,
        max_connections: usize,
        tls: Option<Arc<ServerTls>>,
        metrics: Arc<Metrics>,
        draining: DrainFlag,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(max_connections));
        Self {
            workers: Vec::new(),
            permits,
            max_connections,
            shutdown: watch::Sender::new(false),
            config: ConnectionConfig { protocol, tls, metrics, draining },
            next_worker: AtomicUsize::new(0),
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
        self.workers.push(WorkerHandle { queue, load: Arc::clone(&load) });
        let shutdown = self.shutdown.subscribe();
        // A copy of the worker's own: its reference count is not shared between cores.
        let config = Arc::new(self.config.clone());
        ConnectionWorker { accepted, load, shutdown, config }
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
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        let _all_closed = self.permits.acquire_many(all).await;
    }

    async fn accept(&self, listener: &TcpListener) {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
        match listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            Ok((stream, peer)) => {
                // Of equally loaded workers each gets a connection in turn.
                let start =
                    self.next_worker.fetch_add(1, Ordering::Relaxed) % self.workers.len().max(1);
                let (before, after) = self.workers.split_at(start);
                let workers = after.iter().chain(before);
                let least_loaded = workers.min_by_key(|worker| worker.load.load(Ordering::Relaxed));
                if let Some(worker) = least_loaded {
                    worker.load.fetch_add(1, Ordering::Relaxed);
                    let _worker_gone =
                        worker.queue.send(AcceptedConnection { stream, peer, permit });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// Serves the connections that the acceptor assigns to one worker.
pub struct ConnectionWorker {
    accepted: mpsc::UnboundedReceiver<AcceptedConnection>,
    load: Arc<AtomicUsize>,
    shutdown: watch::Receiver<bool>,
    config: Arc<ConnectionConfig>,
}

impl ConnectionWorker {
    /// Serves connections until the server has closed and all of them have ended, or until
    /// `DRAIN_TIMEOUT` after it.
    pub async fn run(mut self, router: Router) {
        let mut connections = tokio::task::JoinSet::new();
        while let Some(AcceptedConnection { stream, peer, permit }) = self.accepted.recv().await {
            let (router, shutdown) = (router.clone(), self.shutdown.clone());
            let (load, config) = (Arc::clone(&self.load), Arc::clone(&self.config));
            connections.spawn(async move {
                config.metrics.connections.inc();
                if let Ok(stream) = TcpStream::from_std(stream) {
                    let _slower_without = stream.set_nodelay(true);
                    match &config.tls {
                        None => serve_connection(stream, peer, &config, router, shutdown).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve_connection(stream, peer, &config, router, shutdown).await;
                            }
                        }
                    }
                }
                config.metrics.connections.dec();
                load.fetch_sub(1, Ordering::Relaxed);
                drop(permit);
            });
            while connections.try_join_next().is_some() {}
        }
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, ended).await.is_err() {
            tracing::warn!(
                "some connections were still open after {DRAIN_TIMEOUT:?} and are closed"
            );
        }
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: SocketAddr,
    config: &Arc<ConnectionConfig>,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) {
    let peer = Peer(peer.ip().to_canonical());
    let service = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let framing = check_framing(&request);
        let response = framing.map(|()| router.clone().call(request));
        let config = Arc::clone(config);
        async move {
            let mut response = match response {
                Ok(response) => response.await?,
                Err(problem) => problem.into_response(),
            };
            // HTTP/2 announces it once, for the whole connection.
            if config.protocol == Protocol::Http1 && config.draining.is_set() {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let builder = config.protocol.connection_builder();
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

/// Resolves when the server closes.
async fn shutdown_requested(shutdown: &mut watch::Receiver<bool>) {
    let _shutdown_or_gone = shutdown.wait_for(|shutdown| *shutdown).await;
}

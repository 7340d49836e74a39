//! Connections: one acceptor deals them to workers, each a runtime of one thread.
//!
//! A runtime per core costs no locks between cores, and a worker's checks share its connection to
//! the store. `axum::serve` is not used: it sets no timer, so a slow sender could hold a
//! connection for ever. What the connections carry is the router's, how they are encrypted is `tls`'.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tower_service::Service as _;

use super::listener::Listener;
use super::{NodeState, Peer};
use crate::tls::ServerTls;

/// How long a request's head may take, and how long a connection may lie idle.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head in bytes; more is answered with 431.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The same of an HTTP/2 request.
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// The most header lines; more is answered with 431.
const MAX_HEADERS: usize = 100;
/// How long requests in flight may take once the listener is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The most requests that one HTTP/2 connection may have under way.
const MAX_STREAMS: u32 = 1_024;
/// How long an HTTP/2 peer may be silent until it is asked whether it lives, and how long it may
/// take to say so.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// What a server's connections speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 from the first byte, as gRPC does.
    Http2,
}

impl Protocol {
    /// Its name in TLS' negotiation (ALPN).
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
            // An answer is short: its head and body are copied into one buffer.
            .writev(false);
        builder
            .http2()
            .timer(TokioTimer::new())
            // gRPC has no use for the time of day.
            .auto_date_header(false)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            .keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1);
        match self {
            Self::Http1 => builder.http1_only(),
            Self::Http2 => builder.http2_only(),
        }
    }
}

/// A connection and its place among those allowed.
struct AcceptedConnection {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
}

/// The acceptor's end of a worker.
struct WorkerHandle {
    queue: mpsc::UnboundedSender<AcceptedConnection>,
    load: Arc<AtomicUsize>,
}

/// Deals connections to workers.
pub struct HttpServer {
    workers: Vec<WorkerHandle>,
    permits: Arc<Semaphore>,
    max_connections: usize,
    shutdown: watch::Sender<bool>,
    protocol: Protocol,
    shared: Arc<NodeState>,
    tls: Option<Arc<ServerTls>>,
    next_worker: AtomicUsize,
}

impl HttpServer {
    /// A server of at most `max_connections` at a time, encrypted where there is `tls`; without
    /// workers yet.
    #[must_use]
    pub fn new(
        protocol: Protocol,
        max_connections: usize,
        shared: Arc<NodeState>,
        tls: Option<Arc<ServerTls>>,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(max_connections));
        Self {
            workers: Vec::new(),
            permits,
            max_connections,
            shutdown: watch::Sender::new(false),
            protocol,
            shared,
            tls,
            next_worker: AtomicUsize::new(0),
        }
    }

    /// What encrypts its connections.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<ServerTls>> {
        self.tls.as_ref()
    }

    /// One more worker, to be run on a runtime of its own.
    pub fn add_worker(&mut self) -> ConnectionWorker {
        let (queue, accepted) = mpsc::unbounded_channel();
        let load = Arc::new(AtomicUsize::new(0));
        self.workers.push(WorkerHandle { queue, load: Arc::clone(&load) });
        let (shutdown, shared) = (self.shutdown.subscribe(), Arc::clone(&self.shared));
        let (protocol, tls) = (self.protocol, self.tls.clone());
        ConnectionWorker { accepted, load, shutdown, protocol, shared, tls }
    }

    /// Accepts until `stop` resolves, then closes the listener and lets the workers finish what
    /// is in flight.
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
                // Among equals each in turn.
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
                // Most often the process is out of file descriptors; at once it would fail again.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// The worker's end of its desk.
pub struct ConnectionWorker {
    accepted: mpsc::UnboundedReceiver<AcceptedConnection>,
    load: Arc<AtomicUsize>,
    shutdown: watch::Receiver<bool>,
    protocol: Protocol,
    shared: Arc<NodeState>,
    tls: Option<Arc<ServerTls>>,
}

impl ConnectionWorker {
    /// Serves connections until the server has closed and all of them have ended, or have had time
    /// enough to.
    pub async fn run(mut self, router: Router) {
        let mut connections = tokio::task::JoinSet::new();
        while let Some(AcceptedConnection { stream, peer, permit }) = self.accepted.recv().await {
            let (router, shutdown) = (router.clone(), self.shutdown.clone());
            let (load, shared) = (Arc::clone(&self.load), Arc::clone(&self.shared));
            let (protocol, tls) = (self.protocol, self.tls.clone());
            connections.spawn(async move {
                shared.metrics.connections.inc();
                if let Ok(stream) = TcpStream::from_std(stream) {
                    let _slower_without = stream.set_nodelay(true);
                    match tls {
                        None => {
                            serve_connection(stream, peer, protocol, router, shutdown, &shared)
                                .await;
                        }
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve_connection(stream, peer, protocol, router, shutdown, &shared)
                                    .await;
                            }
                        }
                    }
                }
                shared.metrics.connections.dec();
                load.fetch_sub(1, Ordering::Relaxed);
                drop(permit);
            });
            while connections.try_join_next().is_some() {}
        }
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, ended).await.is_err() {
            tracing::warn!(
                "some connections were still open after {DRAIN_TIMEOUT:?} and are cut off"
            );
        }
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: SocketAddr,
    protocol: Protocol,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
    shared: &Arc<NodeState>,
) {
    let peer = Peer(peer.ip().to_canonical());
    let service = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let (response, shared) = (router.clone().call(request), Arc::clone(shared));
        async move {
            let mut response = response.await?;
            // HTTP/2 says so once, for the whole connection.
            if shared.is_draining() && protocol == Protocol::Http1 {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let builder = protocol.connection_builder();
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

/// Resolves once the server closes.
async fn shutdown_requested(shutdown: &mut watch::Receiver<bool>) {
    let _shutdown_or_gone = shutdown.wait_for(|shutdown| *shutdown).await;
}

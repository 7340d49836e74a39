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
use super::{Peer, Shared};
use crate::tls::Tls;

/// How long a request's head may take, and how long a connection may lie idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head in bytes; more is answered with 431.
const MAX_HEAD: usize = 32 * 1024;
/// The same of an HTTP/2 request.
const MAX_HEAD_LIST: u32 = 16 * 1024;
/// The most header lines; more is answered with 431.
const MAX_HEADERS: usize = 100;
/// How long requests in flight may take once the listener is closed.
const LAST_CALL: Duration = Duration::from_secs(10);
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
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }

    fn server(self) -> auto::Builder<TokioExecutor> {
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            // An answer is short: its head and body are copied into one buffer.
            .writev(false);
        server
            .http2()
            .timer(TokioTimer::new())
            // gRPC has no use for the time of day.
            .auto_date_header(false)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_LIST)
            .keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1);
        match self {
            Self::Http1 => server.http1_only(),
            Self::Http2 => server.http2_only(),
        }
    }
}

/// A connection and its place among those allowed.
struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
}

/// The acceptor's end of a worker.
struct Desk {
    queue: mpsc::UnboundedSender<Accepted>,
    load: Arc<AtomicUsize>,
}

/// Deals connections to workers.
pub struct Server {
    desks: Vec<Desk>,
    places: Arc<Semaphore>,
    max_connections: usize,
    closing: watch::Sender<bool>,
    protocol: Protocol,
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
    turn: AtomicUsize,
}

impl Server {
    /// A server of at most `max_connections` at a time, encrypted where there is `tls`; without
    /// workers yet.
    #[must_use]
    pub fn new(
        protocol: Protocol,
        max_connections: usize,
        shared: Arc<Shared>,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        let places = Arc::new(Semaphore::new(max_connections));
        Self {
            desks: Vec::new(),
            places,
            max_connections,
            closing: watch::Sender::new(false),
            protocol,
            shared,
            tls,
            turn: AtomicUsize::new(0),
        }
    }

    /// What encrypts its connections.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// One more worker, to be run on a runtime of its own.
    pub fn worker(&mut self) -> Worker {
        let (queue, accepted) = mpsc::unbounded_channel();
        let load = Arc::new(AtomicUsize::new(0));
        self.desks.push(Desk { queue, load: Arc::clone(&load) });
        let (closing, shared) = (self.closing.subscribe(), Arc::clone(&self.shared));
        let (protocol, tls) = (self.protocol, self.tls.clone());
        Worker { accepted, load, closing, protocol, shared, tls }
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
        self.closing.send_replace(true);
        drop(self.desks);
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        let _closed = self.places.acquire_many(all).await;
    }

    async fn accept(&self, listener: &TcpListener) {
        let Ok(permit) = Arc::clone(&self.places).acquire_owned().await else { return };
        match listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            Ok((stream, peer)) => {
                // Among equals each in turn.
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.desks.len().max(1);
                let (before, from) = self.desks.split_at(turn);
                let desks = from.iter().chain(before);
                let least = desks.min_by_key(|desk| desk.load.load(Ordering::Relaxed));
                if let Some(desk) = least {
                    desk.load.fetch_add(1, Ordering::Relaxed);
                    let _worker_gone = desk.queue.send(Accepted { stream, peer, permit });
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
pub struct Worker {
    accepted: mpsc::UnboundedReceiver<Accepted>,
    load: Arc<AtomicUsize>,
    closing: watch::Receiver<bool>,
    protocol: Protocol,
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
}

impl Worker {
    /// Serves connections until the server has closed and all of them have ended, or have had time
    /// enough to.
    pub async fn run(mut self, router: Router) {
        let mut connections = tokio::task::JoinSet::new();
        while let Some(Accepted { stream, peer, permit }) = self.accepted.recv().await {
            let (router, closing) = (router.clone(), self.closing.clone());
            let (load, shared) = (Arc::clone(&self.load), Arc::clone(&self.shared));
            let (protocol, tls) = (self.protocol, self.tls.clone());
            connections.spawn(async move {
                shared.metrics.connections.inc();
                if let Ok(stream) = TcpStream::from_std(stream) {
                    let _slower_without = stream.set_nodelay(true);
                    match tls {
                        None => serve(stream, peer, protocol, router, closing, &shared).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, peer, protocol, router, closing, &shared).await;
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
        if tokio::time::timeout(LAST_CALL, ended).await.is_err() {
            tracing::warn!("some connections were still open after {LAST_CALL:?} and are cut off");
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: SocketAddr,
    protocol: Protocol,
    router: Router,
    mut closing: watch::Receiver<bool>,
    shared: &Arc<Shared>,
) {
    let peer = Peer(peer.ip().to_canonical());
    let service = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let (answer, shared) = (router.clone().call(request), Arc::clone(shared));
        async move {
            let mut response = answer.await?;
            // HTTP/2 says so once, for the whole connection.
            if shared.is_draining() && protocol == Protocol::Http1 {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let server = protocol.server();
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Resolves once the server closes.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _closing_or_gone = closing.wait_for(|closing| *closing).await;
}

//! One Redis server: its address, commands on its pooled connections, and the signal to probe
//! connections to it.
//!
//! Its slots are known to `topology`, and its failures to each client's connection task.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deadpool::managed::{Object, PoolError};
use redis::{Client, Cmd, FromRedisValue};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::StoreError;
use super::connection::Stream;
use super::errors::classify;
use super::pool::{self, Opener, Pool};
use super::redirect::Redirect;
use super::url::{Connector, InvalidUrl, host_and_port};
use crate::tls::ClientTls;

/// A server at an address, which may or may not be a primary now.
pub(super) struct RedisInstance {
    /// `HOST:PORT`.
    pub(super) address: Arc<str>,
    /// The address and the credentials of all connections.
    pub(super) client: Client,
    /// The TLS of the hot path's connections, if they are encrypted.
    tls: Option<Arc<ClientTls>>,
    /// The connections for everything else.
    pool: Pool,
    /// Notified when a connection to this server fails, so that clients probe theirs.
    probe_signal: watch::Sender<()>,
    /// True if most of its memory is used: see `memory`.
    is_nearly_full: AtomicBool,
    /// True if the last connection found a module that judges checks.
    has_module: AtomicBool,
}

impl RedisInstance {
    /// A server at `host` and `port`. Connects to nothing yet.
    pub(super) fn new(
        connector: &Connector,
        host: &str,
        port: u16,
    ) -> Result<Arc<Self>, InvalidUrl> {
        let client = connector.client(host, port)?;
        let pool = pool::build(client.clone(), connector.runtime.clone())?;
        let address = format!("{host}:{port}").into();
        let probe_signal = watch::Sender::new(());
        let (is_nearly_full, has_module) = (AtomicBool::new(false), AtomicBool::new(false));
        let tls = connector.tls.clone();
        Ok(Arc::new(Self { address, client, tls, pool, probe_signal, is_nearly_full, has_module }))
    }

    /// Opens a stream for a connection of the hot path.
    pub(super) async fn open_stream(&self) -> io::Result<Box<dyn Stream>> {
        let address = host_and_port(self.client.get_connection_info().addr());
        let (host, port) = address.ok_or(io::ErrorKind::InvalidInput)?;
        let stream = TcpStream::connect((&*host, port)).await?;
        let (socket, settings) =
            (SockRef::from(&stream), self.client.get_connection_info().tcp_settings());
        socket.set_tcp_nodelay(settings.nodelay())?;
        if let Some(keepalive) = settings.keepalive() {
            socket.set_tcp_keepalive(keepalive)?;
        }
        socket.set_tcp_user_timeout(settings.user_timeout())?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect(stream, host).await?),
        })
    }

    /// True if the server takes no new subjects that callers make up.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.is_nearly_full.load(Ordering::Relaxed)
    }

    /// Sets whether the server takes new subjects; returns what was set before.
    pub(super) fn set_nearly_full(&self, is_nearly_full: bool) -> bool {
        self.is_nearly_full.swap(is_nearly_full, Ordering::Relaxed)
    }

    /// Logs it when connections begin or cease to find a module that judges checks.
    pub(super) fn note_module(&self, has_module: bool) {
        let server = &*self.address;
        match (self.has_module.swap(has_module, Ordering::Relaxed), has_module) {
            (false, true) => tracing::info!(server, "the module of Redis judges the checks"),
            (true, false) => tracing::warn!(
                server,
                "Redis has no module of this version any more, so the script judges the checks"
            ),
            _ => {}
        }
    }

    /// True if connections to this server are encrypted.
    pub(super) fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A receiver that is notified by [`RedisInstance::request_probes`].
    pub(super) fn probe_requests(&self) -> watch::Receiver<()> {
        self.probe_signal.subscribe()
    }

    /// Requests that every client probes its connection to this server.
    pub(super) fn request_probes(&self) {
        self.probe_signal.send_replace(());
    }

    /// The host part of the address.
    pub(super) fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or(&self.address, |(host, _)| host)
    }

    /// Runs one command on a pooled connection. A connection that fails is not returned to the
    /// pool.
    pub(super) async fn run_command<T: FromRedisValue>(
        &self,
        command: &Cmd,
        is_asking: bool,
    ) -> Result<Result<T, Redirect>, StoreError> {
        let pooled = self.pool.get().await;
        let mut connection: Object<Opener> = pooled.map_err(|error| match error {
            PoolError::Backend(error) => classify(&error),
            other => StoreError::Unreachable(other.to_string()),
        })?;
        let error = match connection.run(command, is_asking).await {
            Ok(reply) => return Ok(Ok(reply)),
            Err(error) => error,
        };
        if let Some(redirect) = Redirect::from_error(&error, self.host()) {
            return Ok(Err(redirect));
        }
        drop(Object::take(connection));
        Err(classify(&error))
    }
}

impl fmt::Debug for RedisInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

//! One Redis server: its address, its connection pool, and the signal to probe connections to it.
//!
//! Its slots are known to `topology`, and its failures to each client's connection task.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime};
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::StoreError;
use super::errors::classify;
use super::redirect::Redirect;
use super::url::{Connector, InvalidUrl};

/// The timeout of everything off the hot path: connecting, waiting for the pool, and replies.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);
/// The most connections in one server's pool.
pub(super) const POOL_SIZE: usize = 8;

/// The config of every connection. Replies have no timeout here, since each caller has a deadline.
pub(super) fn connection_config(connect_timeout: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(connect_timeout))
        .set_response_timeout(None)
}

/// A server at an address, which may or may not be a primary now.
pub(super) struct RedisInstance {
    /// `HOST:PORT`.
    pub(super) address: Arc<str>,
    /// Opens the connections of the hot path.
    pub(super) client: Client,
    /// The connections for everything else.
    pool: Pool,
    /// The runtime that reads and writes the pool's connections.
    runtime: Handle,
    /// Notified when a connection to this server fails, so that clients probe theirs.
    probe_signal: watch::Sender<()>,
    /// True if most of its memory is used: see `memory`.
    is_nearly_full: AtomicBool,
}

impl RedisInstance {
    /// A server at `host` and `port`. Connects to nothing yet.
    pub(super) fn new(
        connector: &Connector,
        host: &str,
        port: u16,
    ) -> Result<Arc<Self>, InvalidUrl> {
        let client = connector.client(host, port)?;
        let manager = Manager::new_with_config(
            client.get_connection_info().clone(),
            connection_config(COMMAND_TIMEOUT).set_response_timeout(Some(COMMAND_TIMEOUT)),
        );
        let pool = manager.map_err(|error| InvalidUrl::new(&error)).and_then(|manager| {
            let pool = Pool::builder(manager).max_size(POOL_SIZE).runtime(Runtime::Tokio1);
            pool.wait_timeout(Some(COMMAND_TIMEOUT))
                .build()
                .map_err(|error| InvalidUrl::new(&error))
        })?;
        let address = format!("{host}:{port}").into();
        let (runtime, probe_signal) = (connector.runtime.clone(), watch::Sender::new(()));
        let is_nearly_full = AtomicBool::new(false);
        Ok(Arc::new(Self { address, client, pool, runtime, probe_signal, is_nearly_full }))
    }

    /// True if the server takes no new subjects that callers make up.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.is_nearly_full.load(Ordering::Relaxed)
    }

    /// Sets whether the server takes new subjects; returns what was set before.
    pub(super) fn set_nearly_full(&self, is_nearly_full: bool) -> bool {
        self.is_nearly_full.swap(is_nearly_full, Ordering::Relaxed)
    }

    /// True if connections to this server are encrypted.
    pub(super) fn uses_tls(&self) -> bool {
        matches!(self.client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. })
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

    /// A pooled connection. The task that reads and writes it runs on the runtime on which it was
    /// opened, for all later users, so a thread that may compute for long must not open one.
    async fn pooled_connection(&self) -> Result<Connection, StoreError> {
        let pool = self.pool.clone();
        let opened = self.runtime.spawn(async move { pool.get().await }).await;
        let opened = opened.map_err(|stopped| StoreError::Unreachable(stopped.to_string()))?;
        opened.map_err(|error| match error {
            PoolError::Backend(error) => classify(&error),
            other => StoreError::Unreachable(other.to_string()),
        })
    }

    /// Runs one command on a pooled connection. A connection that fails is not returned to the
    /// pool.
    pub(super) async fn run_command<T: FromRedisValue>(
        &self,
        command: &Cmd,
        is_asking: bool,
    ) -> Result<Result<T, Redirect>, StoreError> {
        let mut connection = self.pooled_connection().await?;
        let reply = if is_asking {
            let mut both = redis::pipe();
            both.cmd("ASKING").ignore().add_command(command.clone());
            both.query_async(&mut connection).await.map(|(reply,)| reply)
        } else {
            command.query_async(&mut connection).await
        };
        let error = match reply {
            Ok(reply) => return Ok(Ok(reply)),
            Err(error) => error,
        };
        if let Some(redirect) = Redirect::from_error(&error, self.host()) {
            return Ok(Err(redirect));
        }
        drop(Connection::take(connection));
        Err(classify(&error))
    }
}

impl fmt::Debug for RedisInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

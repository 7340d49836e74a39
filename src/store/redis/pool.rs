//! The pooled connections to one Redis server: opened, kept, and asked whether they still work.
//!
//! deadpool-redis opens and asks them, which it would do before each command; here they are asked
//! after a silence only. What is sent over them is not known here, and those of the hot path are
//! `connection`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, QueueMode, RecycleError, RecycleResult};
use deadpool_redis::Manager;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, PushInfo, PushKind, RedisError,
};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::url::InvalidUrl;

/// The timeout of the pool's connections: connecting, waiting for one, and replies.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);
/// The most connections in one server's pool.
pub(super) const POOL_SIZE: usize = 8;
/// The time after a reply for which a connection is used without a PING before. Longer than the
/// interval of heartbeats, and than that of the polls, which would cost two round trips each.
const FRESH: Duration = Duration::from_secs(3);

/// The connections to one server. The one that was used last is used next, so an idle node keeps
/// one fresh.
pub(super) type Pool = managed::Pool<Opener>;

/// Opens connections.
pub(super) struct Opener {
    client: Client,
    /// The runtime that reads and writes the connections, whichever thread uses one.
    runtime: Handle,
}

/// One connection.
pub(super) struct PooledConnection {
    /// The library's manager of this connection alone, which therefore notices the end of no other.
    manager: Manager,
    commands: MultiplexedConnection,
    /// The time of the last reply.
    replied: Instant,
    /// True once the server has closed it, or it has failed.
    has_ended: Arc<AtomicBool>,
}

/// The pool of the connections by `client`. Connects to nothing yet.
pub(super) fn build(client: Client, runtime: Handle) -> Result<Pool, InvalidUrl> {
    Pool::builder(Opener { client, runtime })
        .max_size(POOL_SIZE)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(COMMAND_TIMEOUT))
        .queue_mode(QueueMode::Lifo)
        .build()
        .map_err(|error| InvalidUrl::new(&error))
}

impl managed::Manager for Opener {
    type Type = PooledConnection;
    type Error = RedisError;

    /// Opens a connection on its runtime, which then reads and writes it.
    async fn create(&self) -> Result<PooledConnection, RedisError> {
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&has_ended);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(COMMAND_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT))
            .set_push_sender(move |push: PushInfo| {
                ended.fetch_or(push.kind == PushKind::Disconnection, Ordering::Relaxed);
                Ok::<_, RedisError>(())
            });
        let info = self.client.get_connection_info().clone();
        let manager = Manager::new_with_config(info, config)?;
        let opening = self.runtime.spawn(async move { (manager.create().await, manager) });
        let (opened, manager) = opening.await.map_err(|stopped| {
            RedisError::from((ErrorKind::Io, "the node stops", stopped.to_string()))
        })?;
        Ok(PooledConnection { manager, commands: opened?, replied: Instant::now(), has_ended })
    }

    /// Keeps a connection that works. The end of one is seen at once, unless the other side is gone
    /// without a word: only a PING shows that.
    async fn recycle(
        &self,
        connection: &mut PooledConnection,
        metrics: &Metrics,
    ) -> RecycleResult<RedisError> {
        if connection.has_ended.load(Ordering::Relaxed) {
            return Err(RecycleError::message("the connection has ended"));
        }
        if connection.replied.elapsed() < FRESH {
            return Ok(());
        }
        let PooledConnection { manager, commands, replied, .. } = connection;
        manager.recycle(commands, metrics).await?;
        *replied = Instant::now();
        Ok(())
    }
}

impl PooledConnection {
    /// Runs one command, behind ASKING if the server only imports the slot.
    pub(super) async fn run<T: FromRedisValue>(
        &mut self,
        command: &Cmd,
        is_asking: bool,
    ) -> Result<T, RedisError> {
        let reply = if is_asking {
            let mut both = redis::pipe();
            both.cmd("ASKING").ignore().add_command(command.clone());
            both.query_async(&mut self.commands).await.map(|(reply,)| reply)?
        } else {
            command.query_async(&mut self.commands).await?
        };
        self.replied = Instant::now();
        Ok(reply)
    }
}

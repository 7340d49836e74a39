//! The nodes that share this Redis: a heartbeat each second. The first contact is `startup`'s.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::Instant;

use super::{Redis, StoreError};
use crate::watch::next_tick;

/// A sorted set: the nodes by the time of their last heartbeat.
pub(super) const NODES_KEY: &str = "tg:{nodes}";
/// The time in seconds without a heartbeat after which a node no longer counts.
const NODE_TIMEOUT_SECS: u64 = 3;
/// The interval of the heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which an outage is logged again.
const OUTAGE_LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Records a node's heartbeat by Redis' clock and returns the number of nodes. KEYS[1] is the
/// sorted set of nodes, ARGV[1] this node's id, ARGV[2] the node timeout in seconds.
const HEARTBEAT_SCRIPT: &str = r"
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + ARGV[2], '+inf')
redis.call('EXPIRE', KEYS[1], 60)
return redis.call('ZCARD', KEYS[1])
";

/// A node id that no other node has: 128 random bits.
pub(super) fn random_id() -> Result<String, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

impl Redis {
    /// The number of nodes that share this Redis, from the last heartbeat with a reply.
    #[must_use]
    pub fn live_nodes(&self) -> u64 {
        self.nodes.load(Ordering::Relaxed).max(self.min_nodes)
    }

    /// Sends a heartbeat each second, and follows the topology and the servers' memory as they
    /// change. Never returns.
    pub async fn run(self: Arc<Self>) {
        let heartbeats = async {
            let mut logged = Instant::now();
            loop {
                match self.heartbeat().await {
                    Ok(()) => logged = Instant::now(),
                    Err(error) if logged.elapsed() >= OUTAGE_LOG_INTERVAL => {
                        tracing::warn!(%error, "Redis still cannot be used; plans decide by on_store_failure");
                        logged = Instant::now();
                    }
                    Err(error) => tracing::debug!(%error, "no reply to the heartbeat"),
                }
                next_tick(HEARTBEAT_INTERVAL).await;
            }
        };
        tokio::join!(heartbeats, self.topology.run_refresh(), self.watch_memory());
    }

    /// Sends one heartbeat. Without a reply the number of nodes stays as it was.
    pub(super) async fn heartbeat(&self) -> Result<(), StoreError> {
        let mut command = redis::cmd("EVAL");
        command
            .arg(HEARTBEAT_SCRIPT)
            .arg(1)
            .arg(NODES_KEY)
            .arg(&self.node_id)
            .arg(NODE_TIMEOUT_SECS);
        match self.run_command::<u64>(NODES_KEY, &command).await {
            Ok(nodes) => {
                self.nodes.store(nodes, Ordering::Relaxed);
                self.metrics.live_nodes.set(nodes.try_into().unwrap_or(i64::MAX));
                self.reached.send_if_modified(|reached| !std::mem::replace(reached, true));
                Ok(())
            }
            Err(error) => {
                self.topology.on_missed_heartbeat();
                Err(error)
            }
        }
    }

    /// Removes this node from the list of nodes.
    pub async fn leave(&self) {
        let mut command = redis::cmd("ZREM");
        command.arg(NODES_KEY).arg(&self.node_id);
        if let Err(error) = self.run_command::<u64>(NODES_KEY, &command).await {
            tracing::debug!(%error, "this node stays on the list of nodes until its heartbeat expires");
        }
    }
}

//! Which nodes share this Redis: a heartbeat each second, and the first contact.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Error, Redis, connection};

/// The nodes by the time of their last heartbeat.
const NODES: &str = "tg:{nodes}";
/// A node that has been silent for longer does not share any more, in seconds.
const SILENCE: u64 = 3;

/// Enters a node and returns how many there are. KEYS[1] the nodes; ARGV[1] this node's id, ARGV[2]
/// the silence in seconds. By Redis' clock.
const HEARTBEAT: &str = r"
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + ARGV[2], '+inf')
redis.call('EXPIRE', KEYS[1], 60)
return redis.call('ZCARD', KEYS[1])
";

/// A name that no other node has.
pub(super) fn random_id() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let random: [u64; 2] = std::array::from_fn(|index| RandomState::new().hash_one(index));
    URL_SAFE_NO_PAD.encode(random.map(u64::to_le_bytes).concat())
}

impl Redis {
    /// How many nodes share this Redis, by the last heartbeat that was answered.
    #[must_use]
    pub fn live_nodes(&self) -> u64 {
        self.nodes.load(Ordering::Relaxed).max(self.min_nodes)
    }

    /// How many may hold leases: the lanes of all nodes, taken to be like this one.
    pub(super) fn holders(&self) -> u64 {
        self.live_nodes() * self.lanes.load(Ordering::Relaxed).max(1)
    }

    /// Tries to reach Redis, and logs which of its settings endanger limits.
    ///
    /// # Errors
    /// Where it cannot be reached now.
    pub async fn first_contact(&self) -> Result<(), Error> {
        let (mut connection, now) =
            connection::establish(&self.client, Duration::from_millis(500)).await?;
        self.clock.observe(now);
        let wanted = [
            ("maxmemory-policy", "noeviction", "Redis may drop counters when its memory is full"),
            ("appendonly", "yes", "a restart of Redis forgets what was counted"),
        ];
        for (name, safe, danger) in wanted {
            let asked =
                redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await;
            let Ok([_, value]) = <redis::RedisResult<[String; 2]>>::from(asked) else { continue };
            if value != safe {
                tracing::warn!("{danger}: its {name} is {value}, and should be {safe}");
            }
        }
        self.warn_of_unsafe_replication(&mut connection).await;
        self.beat().await;
        Ok(())
    }

    /// With replicas, a primary that goes on alone admits what the promoted one admits again.
    async fn warn_of_unsafe_replication(&self, connection: &mut redis::aio::MultiplexedConnection) {
        let info = redis::cmd("INFO").arg("replication").query_async(connection).await;
        let Ok(info) = <redis::RedisResult<String>>::from(info) else { return };
        let replicas = info.lines().find_map(|line| line.strip_prefix("connected_slaves:"));
        let asked = redis::cmd("CONFIG")
            .arg("GET")
            .arg("min-replicas-to-write")
            .query_async(connection)
            .await;
        let Ok([_, least]) = <redis::RedisResult<[String; 2]>>::from(asked) else { return };
        if replicas.is_some_and(|count| count != "0") && least == "0" {
            tracing::warn!(
                "a primary cut off from its replicas goes on counting alone: its min-replicas-to-write is 0, and should be 1"
            );
        }
    }

    /// Says each second that this node lives, and learns how many do.
    pub async fn run_heartbeat(self: Arc<Self>) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            self.beat().await;
        }
    }

    /// A heartbeat that is not answered leaves the last number as it was, and has the lanes try
    /// their connections: one that is idle would not notice that Redis is gone.
    async fn beat(&self) {
        let Ok(mut connection) = self.pool.get().await else {
            self.trouble.send_replace(());
            return;
        };
        let mut beat = redis::cmd("EVAL");
        beat.arg(HEARTBEAT).arg(1).arg(NODES).arg(&self.node_id).arg(SILENCE);
        match beat.query_async::<u64>(&mut connection).await {
            Ok(nodes) => {
                self.nodes.store(nodes, Ordering::Relaxed);
                self.metrics.live_nodes.set(nodes.try_into().unwrap_or(i64::MAX));
            }
            Err(error) => {
                tracing::debug!(%error, "a heartbeat was not answered");
                self.trouble.send_replace(());
                drop(deadpool_redis::Connection::take(connection));
            }
        }
    }

    /// Takes this node off the list.
    pub async fn leave(&self) {
        let Ok(mut connection) = self.pool.get().await else { return };
        let mut leave = redis::cmd("ZREM");
        leave.arg(NODES).arg(&self.node_id);
        let left = leave.query_async::<()>(&mut connection).await;
        if let Err(error) = left {
            tracing::debug!(%error, "the others will notice in a moment that this node has left");
        }
    }
}

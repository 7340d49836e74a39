//! The nodes that share this Redis: a heartbeat each second, and the probe at startup.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use super::{Redis, StoreError, errors, instance::RedisInstance};

/// A sorted set: the nodes by the time of their last heartbeat.
const NODES_KEY: &str = "tg:{nodes}";
/// The time in seconds without a heartbeat after which a node no longer counts.
const NODE_TIMEOUT_SECS: u64 = 3;

/// The name in Redis' configuration, its safe value, and the risk of any other value.
type ExpectedSetting = (&'static str, &'static str, &'static str);
const EXPECTED_SETTINGS: [ExpectedSetting; 2] = [
    ("maxmemory-policy", "noeviction", "Redis may drop counters when its memory is full"),
    ("appendonly", "yes", "a restart of Redis forgets what was counted"),
];
const EXPECTED_IN_CLUSTER: [ExpectedSetting; 1] =
    [("cluster-require-full-coverage", "no", "a lost primary stops all others too")];

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

    /// The number of clients that may hold leases, if every node has as many clients as this one.
    pub(super) fn lease_holders(&self) -> u64 {
        self.live_nodes() * self.clients.load(Ordering::Relaxed).max(1)
    }

    /// Connects to each primary and logs a warning for each of its settings that is unsafe.
    ///
    /// # Errors
    /// If Redis cannot be reached now. In a Cluster, if no server can be reached.
    pub async fn probe_at_startup(&self) -> Result<(), StoreError> {
        self.topology.refresh().await?;
        let is_sharded = self.topology.is_sharded();
        let in_cluster = if is_sharded { &EXPECTED_IN_CLUSTER[..] } else { &[] };
        let expected = [&EXPECTED_SETTINGS[..], in_cluster].concat();
        for server in self.topology.primaries() {
            match self.connect_and_check(&server, &expected).await {
                Ok(mut connection) if !is_sharded => warn_if_cluster(&mut connection).await,
                Ok(_) => {}
                Err(error) if !is_sharded => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, server = &*server.address, "cannot connect to a primary of the cluster yet");
                }
            }
        }
        self.heartbeat().await;
        Ok(())
    }

    async fn connect_and_check(
        &self,
        server: &RedisInstance,
        expected: &[ExpectedSetting],
    ) -> Result<MultiplexedConnection, StoreError> {
        let mut connection = self.connect(server, Duration::from_millis(500)).await?.connection;
        if let Err(error) = warn_of_unsafe_settings(server, &mut connection, expected).await {
            let server = &*server.address;
            tracing::warn!(%error, server, "cannot read the settings of Redis to check that they are safe; allow this user +config|get +info");
        }
        Ok(connection)
    }

    /// Sends a heartbeat each second and follows the topology as it changes. Never returns.
    pub async fn run(self: Arc<Self>) {
        let heartbeats = async {
            let mut interval = tokio::time::interval(Duration::from_secs(1));
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                self.heartbeat().await;
            }
        };
        tokio::join!(heartbeats, self.topology.run_refresh());
    }

    /// Sends one heartbeat. Without a reply the number of nodes stays as it was.
    async fn heartbeat(&self) {
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
            }
            Err(error) => {
                tracing::debug!(%error, "no reply to the heartbeat");
                self.topology.on_missed_heartbeat();
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

/// Warns if a server that is addressed on its own belongs to a Cluster.
async fn warn_if_cluster(connection: &mut MultiplexedConnection) {
    let mode = read_info(connection, "server", "redis_mode").await.ok().flatten();
    if mode.as_deref() == Some("cluster") {
        tracing::warn!("{}", errors::wrong_scheme_error());
    }
}

async fn warn_of_unsafe_settings(
    server: &RedisInstance,
    connection: &mut MultiplexedConnection,
    expected: &[ExpectedSetting],
) -> RedisResult<()> {
    let server = &*server.address;
    for (name, safe, danger) in expected {
        if let Some(value) = read_setting(connection, name).await?.filter(|value| value != safe) {
            tracing::warn!(server, "{danger}: its {name} is {value}, and should be {safe}");
        }
    }
    // A primary that is cut off from its replicas goes on admitting requests, and the replica that
    // is promoted admits as many again.
    let replicas = read_info(connection, "replication", "connected_slaves").await?;
    let min_replicas = read_setting(connection, "min-replicas-to-write").await?;
    if replicas.is_some_and(|count| count != "0")
        && min_replicas.is_some_and(|min_replicas| min_replicas == "0")
    {
        tracing::warn!(
            server,
            "a primary that is cut off from its replicas goes on admitting requests: its min-replicas-to-write is 0, and should be 1"
        );
    }
    Ok(())
}

/// The configured value, if the server has a setting of that name.
async fn read_setting(
    connection: &mut MultiplexedConnection,
    name: &str,
) -> RedisResult<Option<String>> {
    let mut command = redis::cmd("CONFIG");
    let reply: Vec<(String, String)> = command.arg("GET").arg(name).query_async(connection).await?;
    Ok(reply.into_iter().next().map(|(_, value)| value))
}

/// The value of a field in one section of INFO.
async fn read_info(
    connection: &mut MultiplexedConnection,
    section: &str,
    name: &str,
) -> RedisResult<Option<String>> {
    let text: String = redis::cmd("INFO").arg(section).query_async(connection).await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(value.map(str::to_owned))
}

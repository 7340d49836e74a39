//! The first contact with Redis: a probe of each primary, warnings of unsafe configuration, and the
//! difference between a Redis that may come back and one that never works as it is configured.
//!
//! A Redis that is only unreachable ends no start: heartbeats and connections retry it.

use std::time::Duration;

use futures_util::future::join_all;
use redis::{Cmd, FromRedisValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::errors::wrong_scheme_error;
use super::{Redis, StoreError, instance::RedisInstance};
use crate::tls::ClientTls;

/// The longest time that each step of the first contact takes.
const STEP_TIMEOUT: Duration = Duration::from_millis(500);

/// The name in Redis' configuration, its safe value, and the risk of any other value.
type ExpectedSetting = (&'static str, &'static str, &'static str);
const EXPECTED_SETTINGS: [ExpectedSetting; 2] = [
    ("maxmemory-policy", "noeviction", "Redis may drop counters when its memory is full"),
    ("appendonly", "yes", "a restart of Redis forgets what was counted"),
];
const EXPECTED_IN_CLUSTER: [ExpectedSetting; 1] =
    [("cluster-require-full-coverage", "no", "a lost primary stops all others too")];

impl Redis {
    /// Connects to each primary and logs a warning for each of its settings that is unsafe.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if no retry could succeed; any other error if Redis cannot be
    /// used now. In a Cluster that is if no server can be reached.
    pub async fn probe_at_startup(&self) -> Result<(), StoreError> {
        let result = self.probe_primaries().await;
        if let Err(error) = &result {
            self.metrics.record_store_error(error.kind());
        }
        result
    }

    /// Waits until Redis can be used for the first time. Returns at once if it could be before.
    pub async fn wait_until_reached(&self) {
        // The sender is `self`'s, so it cannot be gone.
        let mut reached = self.reached.subscribe();
        let _reached = reached.wait_for(|reached| *reached).await;
    }

    async fn probe_primaries(&self) -> Result<(), StoreError> {
        let is_sharded = self.topology.is_sharded();
        if let Err(error) = self.topology.refresh().await {
            return Err(self.with_other_transport(error).await);
        }
        let in_cluster = if is_sharded { &EXPECTED_IN_CLUSTER[..] } else { &[] };
        let expected = [&EXPECTED_SETTINGS[..], in_cluster].concat();
        let primaries = self.topology.primaries();
        // Together, so that a start takes no longer the more primaries cannot be reached.
        let checks = primaries.iter().map(|server| self.connect_and_check(server, &expected));
        for (server, result) in primaries.iter().zip(join_all(checks).await) {
            let Err(error) = result else { continue };
            if !is_sharded {
                return Err(self.with_other_transport(error).await);
            }
            if matches!(error, StoreError::Misconfigured(_)) {
                return Err(error);
            }
            tracing::warn!(%error, server = &*server.address, "cannot connect to a primary of the cluster yet");
        }
        self.heartbeat().await
    }

    async fn connect_and_check(
        &self,
        server: &RedisInstance,
        expected: &[ExpectedSetting],
    ) -> Result<(), StoreError> {
        self.connect(server, STEP_TIMEOUT).await?;
        if let Err(error) = warn_of_unsafe_settings(server, expected).await {
            let server = &*server.address;
            tracing::warn!(%error, server, "cannot read the settings of Redis to check that they are safe; allow this user +config|get +info");
        }
        if !self.topology.is_sharded() && is_cluster(server).await {
            return Err(wrong_scheme_error());
        }
        Ok(())
    }

    /// The error of a first contact. If the server speaks TLS and the node does not, or the other
    /// way round, it is that.
    async fn with_other_transport(&self, error: StoreError) -> StoreError {
        if !matches!(error, StoreError::Unreachable(_) | StoreError::Timeout) {
            return error;
        }
        for server in self.topology.named_servers() {
            let (speaks_other, why) = if server.uses_tls() {
                let why = "it does not speak TLS; write redis:// and not rediss://";
                (timeout(STEP_TIMEOUT, speaks_plain(&server.address)).await, why)
            } else {
                let why = "it speaks TLS; write rediss:// and not redis://";
                (timeout(STEP_TIMEOUT, speaks_tls(&server.address)).await, why)
            };
            if speaks_other == Ok(true) {
                return StoreError::Misconfigured(why.into());
            }
        }
        error
    }
}

/// True if the server responds to a PING without TLS, also by asking for a password.
async fn speaks_plain(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let mut first = [0];
    stream.write_all(b"PING\r\n").await.is_ok()
        && stream.read_exact(&mut first).await.is_ok()
        && matches!(&first, b"+" | b"-")
}

/// True if a TLS handshake succeeds, whatever the certificate: nothing is sent after it.
async fn speaks_tls(address: &str) -> bool {
    let Ok(stream) = TcpStream::connect(address).await else { return false };
    let Ok(client) = ClientTls::unverified(None) else { return false };
    client.connect(stream, "redis.invalid".into()).await.is_ok()
}

/// True if a server that is addressed on its own belongs to a Cluster.
async fn is_cluster(server: &RedisInstance) -> bool {
    let mode = read_info(server, "server", "redis_mode").await.ok().flatten();
    mode.as_deref() == Some("cluster")
}

async fn warn_of_unsafe_settings(
    server: &RedisInstance,
    expected: &[ExpectedSetting],
) -> Result<(), StoreError> {
    for (name, safe, danger) in expected {
        if let Some(value) = read_setting(server, name).await?.filter(|value| value != safe) {
            let server = &*server.address;
            tracing::warn!(server, "{danger}: its {name} is {value}, and should be {safe}");
        }
    }
    // A primary that is cut off from its replicas goes on admitting requests, and the replica that
    // is promoted admits as many again.
    let replicas = read_info(server, "replication", "connected_slaves").await?;
    let min_replicas = read_setting(server, "min-replicas-to-write").await?;
    if replicas.is_some_and(|count| count != "0")
        && min_replicas.is_some_and(|min_replicas| min_replicas == "0")
    {
        tracing::warn!(
            server = &*server.address,
            "a primary that is cut off from its replicas goes on admitting requests: its min-replicas-to-write is 0, and should be 1"
        );
    }
    Ok(())
}

/// The configured value, if the server has a setting of that name.
async fn read_setting(server: &RedisInstance, name: &str) -> Result<Option<String>, StoreError> {
    let command = redis::cmd("CONFIG").arg("GET").arg(name).take();
    let reply: Vec<(String, String)> = query(server, &command).await?;
    Ok(reply.into_iter().next().map(|(_, value)| value))
}

/// The value of a field in one section of INFO.
async fn read_info(
    server: &RedisInstance,
    section: &str,
    name: &str,
) -> Result<Option<String>, StoreError> {
    let text: String = query(server, redis::cmd("INFO").arg(section)).await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(value.map(str::to_owned))
}

/// The reply to a command without keys, which no server redirects.
async fn query<T: FromRedisValue>(server: &RedisInstance, command: &Cmd) -> Result<T, StoreError> {
    server.run_command(command, false).await?.map_err(|_| wrong_scheme_error())
}

//! Redis as the store of all nodes: the state that the workers of one node share.
//!
//! Checks go through `client`: each worker has a connection of its own to each primary, which
//! carries its script calls. Everything else uses connection pools: the heartbeat, the registry,
//! the outbox, usage, and the probe at startup.

mod call;
mod client;
mod command;
mod connection;
mod errors;
mod instance;
mod memory;
mod nodes;
mod outbox;
mod pool;
mod redirect;
mod registry;
mod reply;
mod reports;
mod resp;
mod rows;
mod script;
mod startup;
mod topology;
mod url;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use tokio::sync::watch;

use self::topology::Topology;
use super::{CallObserver, StoreError};
use crate::telemetry::{LogThrottle, Metrics};
use crate::time::ClockEstimate;
use client::Leases;
pub use client::{HeldLeases, RedisClient};
pub use reports::ReportKind;
pub use script::CHECK_SCRIPT_SOURCE;
pub use url::{InvalidUrl, RedisUrl};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use usage::decode_usage;

/// The configuration of the Redis store.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// The address and the credentials.
    pub url: RedisUrl,
    /// A PEM file with the certificate authorities that the server's certificate is checked
    /// against.
    pub ca_file: Option<std::path::PathBuf>,
    /// The longest time that a check may take.
    pub deadline: Duration,
    /// The lowest number of nodes to assume when leases are sized.
    pub min_nodes: u64,
    /// True if limits that are declared `leased` are spent from leases.
    pub leases: bool,
    /// True if refusals of such limits are repeated without a call while few units are left.
    pub repeats_refusals: bool,
    /// True if the node is ready before Redis could be used for the first time.
    pub start_without_store: bool,
    /// The runtime that reads and writes all pooled connections, whichever thread uses one. It must
    /// never compute for long: heartbeats and lookups of keys wait for it.
    pub runtime: tokio::runtime::Handle,
}

/// The connection to Redis that all workers of one node share.
pub struct Redis {
    topology: Topology,
    deadline: Duration,
    metrics: Arc<Metrics>,
    /// Redis' clock, from the last reply.
    clock: ClockEstimate,
    /// True if limits that are declared `leased` are spent from leases.
    leases: bool,
    /// True if refusals of such limits are repeated without a call.
    repeats_refusals: bool,
    /// The leases of all clients.
    lease_table: Arc<Leases>,
    /// The number of open clients.
    clients: AtomicUsize,
    /// The number of connections whose circuit breaker is open.
    open_breakers: AtomicUsize,
    nodes: AtomicU64,
    min_nodes: u64,
    node_id: String,
    /// True once Redis could be used for the first time.
    reached: watch::Sender<bool>,
    call_observer: Option<Arc<dyn CallObserver>>,
    bad_row_log: LogThrottle,
    script_log: LogThrottle,
    loss_log: LogThrottle,
}

impl Redis {
    /// The store at `options.url`. Connects to nothing yet.
    ///
    /// # Errors
    /// If the address or the certificates cannot be used, or the system has no random numbers.
    pub fn new(
        options: &RedisOptions,
        metrics: Arc<Metrics>,
        call_observer: Option<Arc<dyn CallObserver>>,
    ) -> Result<Arc<Self>, InvalidUrl> {
        let topology = Topology::new(options)?;
        let node_id = nodes::random_id().map_err(|error| InvalidUrl::new(&error))?;
        Ok(Arc::new(Self {
            topology,
            deadline: options.deadline,
            metrics,
            clock: ClockEstimate::default(),
            leases: options.leases,
            repeats_refusals: options.repeats_refusals,
            lease_table: Arc::default(),
            clients: AtomicUsize::new(0),
            open_breakers: AtomicUsize::new(0),
            nodes: AtomicU64::new(0),
            min_nodes: options.min_nodes,
            node_id,
            reached: watch::Sender::new(options.start_without_store),
            call_observer,
            bad_row_log: LogThrottle::default(),
            script_log: LogThrottle::default(),
            loss_log: LogThrottle::default(),
        }))
    }

    /// Counts damaged counters, and logs the Redis keys among which they are.
    fn log_bad_row(&self, keys: &str, why: &str) {
        self.metrics.record_store_error("bad_row");
        if self.bad_row_log.is_due() {
            tracing::error!(
                keys,
                why,
                "stored counters are damaged; a reset replaces those of an API key"
            );
        }
    }
}

/// A random time between half of `time` and all of it, so that nodes do nothing in step.
fn jittered(time: Duration) -> Duration {
    let part = getrandom::u32().unwrap_or_default() % 512;
    time.mul_f64(0.5 + f64::from(part) / 1024.0)
}

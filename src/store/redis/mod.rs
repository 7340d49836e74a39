//! Redis as the store of all nodes: what workers share.
//!
//! The hot path is the clients': each worker has a connection of its own to each primary and sends one
//! call at a time. Pools serve the rest: the heartbeat, what is declared through the API, usage,
//! and the questions at start-up.

mod call;
mod client;
mod cluster;
mod command;
mod connection;
mod errors;
mod instance;
mod nodes;
mod outbox;
mod registry;
mod reply;
mod script;
mod url;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use self::cluster::Topology;
use self::instance::RedisInstance;
use super::StoreError;
use crate::telemetry::Metrics;
use crate::time::ClockEstimate;
pub use client::RedisClient;
use reply::ReplyDecoder;
pub use script::CHECK_SCRIPT_SOURCE;
pub use url::{InvalidUrl, RedisUrl};

/// How Redis is reached.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Where, and as whom.
    pub url: RedisUrl,
    /// PEM file with the authorities that may have signed the server's certificate.
    pub ca_file: Option<std::path::PathBuf>,
    /// The longest that a check may take.
    pub deadline: Duration,
    /// How many nodes there are at least.
    pub min_nodes: u64,
    /// Whether limits that are declared so are spent from leases.
    pub leases: bool,
}

/// What the clients of one node share.
pub struct Redis {
    servers: Servers,
    deadline: Duration,
    metrics: Arc<Metrics>,
    /// Redis' clock, as the last answer showed it.
    clock: ClockEstimate,
    /// Whether limits that are declared so are spent from leases.
    leases: bool,
    /// How many clients there are, each of which may hold leases.
    clients: AtomicU64,
    /// How many of the clients' connections are given up.
    open_breakers: AtomicUsize,
    nodes: AtomicU64,
    min_nodes: u64,
    node_id: String,
}

/// Where the counters lie.
enum Servers {
    /// All on one primary.
    Single(Arc<RedisInstance>),
    /// Each subject's in its slot.
    Cluster(Arc<Topology>),
}

impl Redis {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// Where the address or the certificates cannot be used.
    pub fn new(options: &RedisOptions, metrics: Arc<Metrics>) -> Result<Arc<Self>, InvalidUrl> {
        let connector = options.url.connector(options.ca_file.as_deref())?;
        let servers = match &options.url.servers()[..] {
            [(host, port)] if !options.url.is_cluster() => {
                Servers::Single(RedisInstance::new(&connector, host, *port)?)
            }
            seeds => Servers::Cluster(Arc::new(Topology::new(connector, seeds)?)),
        };
        Ok(Arc::new(Self {
            servers,
            deadline: options.deadline,
            metrics,
            clock: ClockEstimate::default(),
            leases: options.leases,
            clients: AtomicU64::new(0),
            open_breakers: AtomicUsize::new(0),
            nodes: AtomicU64::new(0),
            min_nodes: options.min_nodes,
            node_id: nodes::random_id(),
        }))
    }
}

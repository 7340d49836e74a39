//! Redis as the store of all nodes: what workers share.
//!
//! The hot path is the clients': each worker has a connection of its own to each primary and sends one
//! call at a time. Pools serve the rest: the heartbeat, what is declared through the API, usage,
//! and the questions at start-up.

mod call;
mod client;
mod command;
mod connection;
mod errors;
mod instance;
mod nodes;
mod outbox;
mod redirect;
mod registry;
mod reply;
mod script;
mod topology;
mod url;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use self::topology::Topology;
use super::StoreError;
use crate::telemetry::Metrics;
use crate::time::ClockEstimate;
pub use client::RedisClient;
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
    topology: Topology,
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

impl Redis {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// If the address or the certificates cannot be used, or the system has no random numbers.
    pub fn new(options: &RedisOptions, metrics: Arc<Metrics>) -> Result<Arc<Self>, InvalidUrl> {
        let topology = Topology::new(&options.url, options.ca_file.as_deref())?;
        let node_id = nodes::random_id().map_err(|error| InvalidUrl::new(&error))?;
        Ok(Arc::new(Self {
            topology,
            deadline: options.deadline,
            metrics,
            clock: ClockEstimate::default(),
            leases: options.leases,
            clients: AtomicU64::new(0),
            open_breakers: AtomicUsize::new(0),
            nodes: AtomicU64::new(0),
            min_nodes: options.min_nodes,
            node_id,
        }))
    }
}

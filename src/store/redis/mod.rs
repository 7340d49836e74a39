//! Redis as the store of all nodes: what workers share.
//!
//! The hot path is the lanes': each worker has a connection of its own and sends one script call at
//! a time. The pool serves the rest: the heartbeat, what is declared through the API, and the
//! questions at start-up.

mod call;
mod connection;
mod lane;
mod nodes;
mod registry;
mod reply;
mod script;
mod url;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use deadpool_redis::redis;
use deadpool_redis::{Manager, Pool, Runtime};
use tokio::sync::watch;

use super::Error;
use crate::telemetry::Metrics;
use crate::time::Estimate;
pub use lane::Lane;
use reply::Reply;
pub use script::SCRIPT;
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

/// What the lanes of one node share.
pub struct Redis {
    client: redis::Client,
    pool: Pool,
    deadline: Duration,
    metrics: Arc<Metrics>,
    /// Redis' clock, as the last answer showed it.
    clock: Estimate,
    /// Whether limits that are declared so are spent from leases.
    leases: bool,
    /// How many lanes there are, each of which may hold leases.
    lanes: AtomicU64,
    /// How many lanes have no connection.
    lost_lanes: AtomicUsize,
    /// Changes whenever a lane gives its connection up: the others then try theirs.
    trouble: watch::Sender<()>,
    nodes: AtomicU64,
    min_nodes: u64,
    node_id: String,
}

impl Redis {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// Where the address or the certificates cannot be used.
    pub fn new(options: &RedisOptions, metrics: Arc<Metrics>) -> Result<Arc<Self>, InvalidUrl> {
        let client = options.url.client(options.ca_file.as_deref())?;
        let manager = Manager::new_with_config(
            client.get_connection_info().clone(),
            connection::config(Duration::from_millis(500))
                .set_response_timeout(Some(Duration::from_millis(500))),
        );
        let pool = manager.map_err(|error| InvalidUrl::new(&error)).and_then(|manager| {
            let pool = Pool::builder(manager).max_size(8).runtime(Runtime::Tokio1);
            pool.wait_timeout(Some(Duration::from_millis(500)))
                .build()
                .map_err(|error| InvalidUrl::new(&error))
        })?;
        Ok(Arc::new(Self {
            client,
            pool,
            deadline: options.deadline,
            metrics,
            clock: Estimate::default(),
            leases: options.leases,
            lanes: AtomicU64::new(0),
            lost_lanes: AtomicUsize::new(0),
            trouble: watch::Sender::new(()),
            nodes: AtomicU64::new(0),
            min_nodes: options.min_nodes,
            node_id: nodes::random_id(),
        }))
    }

    /// A connection of the pool.
    async fn pooled(&self) -> Result<deadpool_redis::Connection, Error> {
        self.pool.get().await.map_err(|error| Error::Unreachable(error.to_string()))
    }
}

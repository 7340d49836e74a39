//! The servers that hold the counters: which one is the primary of a subject now, and when that
//! changes.
//!
//! [`Topology::is_sharded`] returns true if subjects may lie on different servers. Connections are
//! not made here, and no checks are sent.

mod cluster;
pub(super) mod slot;
mod slot_map;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::errors::wrong_scheme_error;
use super::instance::RedisInstance;
use super::redirect::Redirect;
use super::url::InvalidUrl;
use super::{RedisOptions, StoreError};
use crate::limit::Subject;
pub(super) use cluster::ClusterTopology;
pub(super) use slot_map::SlotMap;

/// The servers, and the way in which their primaries change.
pub(super) enum Topology {
    /// One server, named by the operator. It is the primary for as long as the node runs.
    Fixed(Arc<RedisInstance>),
    /// A Redis Cluster: each slot has a primary, and both slots and primaries change.
    Cluster(Arc<ClusterTopology>),
}

/// The primary of one connection. A failover replaces it while the connection's task goes on.
pub(super) struct PrimaryWatch(watch::Receiver<Arc<RedisInstance>>);

/// The spread of subjects over primaries.
pub(super) enum Placement<'t> {
    /// One primary at a time has all subjects.
    Together(PrimaryWatch),
    /// Each slot has a primary.
    BySlot(&'t Arc<ClusterTopology>),
}

impl Topology {
    /// The servers of the configured address. Connects to nothing yet.
    ///
    /// # Errors
    /// If the address or the certificates cannot be used.
    pub(super) fn new(options: &RedisOptions) -> Result<Self, InvalidUrl> {
        let RedisOptions { url, ca_file, runtime, .. } = options;
        let connector = url.connector(ca_file.as_deref(), runtime.clone())?;
        match &url.servers()[..] {
            [(host, port)] if !url.is_cluster() => {
                Ok(Self::Fixed(RedisInstance::new(&connector, host, *port)?))
            }
            seeds => Ok(Self::Cluster(Arc::new(ClusterTopology::new(connector, seeds)?))),
        }
    }

    /// True if subjects may lie on different servers, so that no script can judge them together.
    pub(super) fn is_sharded(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// The spread of subjects over primaries, for a client that opens connections to them.
    pub(super) fn placement(&self) -> Placement<'_> {
        match self {
            Self::Fixed(server) => Placement::Together(PrimaryWatch::fixed(server)),
            Self::Cluster(cluster) => Placement::BySlot(cluster),
        }
    }

    /// The primaries that are known now.
    pub(super) fn primaries(&self) -> Vec<Arc<RedisInstance>> {
        match self {
            Self::Fixed(server) => vec![Arc::clone(server)],
            Self::Cluster(cluster) => cluster.map().primaries.clone(),
        }
    }

    /// The servers that the operator named.
    pub(super) fn named_servers(&self) -> &[Arc<RedisInstance>] {
        match self {
            Self::Fixed(server) => std::slice::from_ref(server),
            Self::Cluster(cluster) => &cluster.seeds,
        }
    }

    /// The primary of a slot now.
    ///
    /// # Errors
    /// If no server of a Cluster has the slot.
    pub(super) fn primary_of(&self, slot: u16) -> Result<Arc<RedisInstance>, StoreError> {
        match self {
            Self::Fixed(server) => Ok(Arc::clone(server)),
            Self::Cluster(cluster) => cluster.primary_of(slot),
        }
    }

    /// The server to send a redirected command to, after ASKING, or `None` for the primary that the
    /// slot has then.
    ///
    /// # Errors
    /// If the deadline has passed, no server has the slot, or the operator did not name a Cluster.
    pub(super) async fn follow_redirect(
        &self,
        redirect: Redirect,
        slot: u16,
        deadline: Instant,
    ) -> Result<Option<Arc<RedisInstance>>, StoreError> {
        match self {
            Self::Fixed(_) => Err(wrong_scheme_error()),
            Self::Cluster(cluster) => cluster.follow_redirect(redirect, slot, deadline).await,
        }
    }

    /// A subject that belongs to no client and that `server` holds, to probe the server with.
    /// `None` if the server holds too few slots for one to be found.
    pub(super) fn probe_subject(&self, server: &RedisInstance) -> Option<Subject> {
        match self {
            Self::Fixed(_) => Some(Subject::policy("", "probe")),
            Self::Cluster(cluster) => cluster.probe_subject(server),
        }
    }

    /// Asks the servers which of them are primaries.
    ///
    /// # Errors
    /// If there is no response from any of them.
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        match self {
            Self::Fixed(_) => Ok(()),
            Self::Cluster(cluster) => cluster.refresh().await,
        }
    }

    /// Requests a refresh of the primaries soon, after a connection has failed.
    pub(super) fn request_refresh(&self) {
        match self {
            Self::Fixed(_) => {}
            Self::Cluster(cluster) => cluster.request_refresh(),
        }
    }

    /// Follows the primaries as they change. Ends at once if they cannot.
    pub(super) async fn run_refresh(&self) {
        match self {
            Self::Fixed(_) => {}
            Self::Cluster(cluster) => cluster.run_refresh().await,
        }
    }

    /// Requests that all clients probe their connections after a heartbeat without a reply: an idle
    /// connection would not notice that its peer is gone. In a Cluster the refresh of the slots
    /// does so.
    pub(super) fn on_missed_heartbeat(&self) {
        match self {
            Self::Fixed(server) => server.request_probes(),
            Self::Cluster(_) => {}
        }
    }
}

impl PrimaryWatch {
    /// A primary that no failover replaces.
    pub(super) fn fixed(server: &Arc<RedisInstance>) -> Self {
        watch::channel(Arc::clone(server)).1.into()
    }

    /// The primary now. [`PrimaryWatch::changed`] then waits for the next one.
    pub(super) fn current(&mut self) -> Arc<RedisInstance> {
        Arc::clone(&self.0.borrow_and_update())
    }

    /// Waits until another server is the primary. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The sender is dropped: the primary cannot change.
            std::future::pending::<()>().await;
        }
    }
}

impl From<watch::Receiver<Arc<RedisInstance>>> for PrimaryWatch {
    fn from(receiver: watch::Receiver<Arc<RedisInstance>>) -> Self {
        Self(receiver)
    }
}

//! The router of one client: it sends work to the queue of its subject's primary.
//!
//! If all subjects share a primary there is one queue, which follows that primary through
//! failovers. In a Cluster there is a queue to each primary, opened when the primary first appears
//! and closed when it has no more slots. Work that was redirected has not run and is sent again;
//! work that may have run is not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use smallvec::{SmallVec, smallvec};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection_task::ConnectionTask;
use super::job::{CallError, CheckResult, QueuedCheck, Work, receive_results};
use super::queue::Queue;
use crate::limit::Charges;
use crate::store::redis::errors::wrong_scheme_error;
use crate::store::redis::instance::RedisInstance;
use crate::store::redis::topology::{ClusterTopology, Placement, PrimaryWatch, SlotMap, slot};
use crate::store::redis::{Redis, StoreError};
use crate::store::{CheckContext, StoreVerdict};

/// The queues of one client. Clones are cheap and share the queues.
#[derive(Clone)]
pub(super) enum Router {
    /// One queue for all subjects.
    Single(Queue),
    /// A queue to each primary, chosen by a subject's slot.
    BySlot(Arc<SlotQueues>),
}

/// The results of some work: one for each check, and for refunds only an error if they failed.
pub(super) type WorkResults = SmallVec<[Result<CheckResult, StoreError>; 1]>;

impl Router {
    /// Opens queues to all primaries, connected to those that can be reached now.
    pub(super) async fn connect(redis: &Arc<Redis>) -> Self {
        match redis.topology.placement() {
            Placement::Together(primary) => Self::Single(connect_queue(redis, primary).await),
            Placement::BySlot(topology) => Self::BySlot(SlotQueues::connect(redis, topology).await),
        }
    }

    /// Judges one check whose subjects have the same primary.
    pub(super) async fn judge(
        &self,
        charges: &Charges,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        self.run(QueuedCheck::new(charges, context), deadline).await?.into_verdict()
    }

    /// Runs one check, or an operation on a reservation, whose subjects have the same primary.
    pub(super) async fn run(
        &self,
        check: QueuedCheck,
        deadline: Instant,
    ) -> Result<CheckResult, StoreError> {
        let work = Work { checks: smallvec![check], ..Work::default() };
        match self {
            Self::Single(queue) => {
                let results = receive_results(queue.send(work, deadline)?, 1).await;
                results.into_iter().next().map_or(Err(StoreError::Timeout), into_store_result)
            }
            // Boxed, so that the futures of checks that go to a single primary stay small.
            Self::BySlot(queues) => {
                let result = Box::pin(queues.send(work, deadline)).await?;
                result.ok_or(StoreError::Timeout)
            }
        }
    }

    /// Sends work to the primary of its subjects. In a Cluster the work must be a single check or
    /// refunds of a single slot.
    pub(super) async fn send(&self, work: Work, deadline: Instant) -> WorkResults {
        match self {
            Self::Single(queue) => {
                let checks = work.checks.len();
                match queue.send(work, deadline) {
                    Ok(sent) => {
                        let results = receive_results(sent, checks).await;
                        results.into_iter().map(into_store_result).collect()
                    }
                    Err(error) => smallvec![Err(error); checks.max(1)],
                }
            }
            Self::BySlot(queues) => match queues.send(work, deadline).await {
                Ok(result) => result.into_iter().map(Ok).collect(),
                Err(error) => smallvec![Err(error)],
            },
        }
    }
}

/// The result of a server that is not part of a Cluster, where a redirect is an error.
fn into_store_result(result: Result<CheckResult, CallError>) -> Result<CheckResult, StoreError> {
    result.map_err(|error| match error {
        CallError::Failed(error) => error,
        CallError::Redirected(_) => wrong_scheme_error(),
    })
}

/// Opens a queue to a primary, connected if the primary can be reached now.
async fn connect_queue(redis: &Arc<Redis>, primary: PrimaryWatch) -> Queue {
    let (queue, mut task) = ConnectionTask::with_queue(redis, primary);
    task.connect_once().await;
    tokio::spawn(task.run());
    queue
}

/// The queues to the primaries of a Cluster.
pub(super) struct SlotQueues {
    redis: Arc<Redis>,
    topology: Arc<ClusterTopology>,
    table: ArcSwap<RoutingTable>,
    /// Held while a table is rebuilt, so that no two rebuilds open queues to the same primary.
    rebuild_lock: Mutex<()>,
}

/// The queues for one version of the slot map.
struct RoutingTable {
    map: Arc<SlotMap>,
    /// In the order of the map's primaries.
    queues: Vec<Queue>,
    /// The same by address, and also the queues to servers to which a first slot is being moved.
    by_address: HashMap<Arc<str>, Queue>,
}

impl SlotQueues {
    async fn connect(redis: &Arc<Redis>, topology: &Arc<ClusterTopology>) -> Arc<Self> {
        if topology.map().primaries.is_empty()
            && let Err(error) = topology.refresh().await
        {
            tracing::debug!(%error, "the cluster's slots are not known yet");
        }
        let changes = topology.subscribe();
        let map = Arc::clone(&topology.map());
        let primaries = map.primaries.iter().map(PrimaryWatch::fixed);
        let queues = join_all(primaries.map(|primary| connect_queue(redis, primary))).await;
        let addresses = map.primaries.iter().map(|server| Arc::clone(&server.address));
        let by_address = addresses.zip(queues.iter().cloned()).collect();
        let slot_queues = Arc::new(Self {
            redis: Arc::clone(redis),
            topology: Arc::clone(topology),
            table: ArcSwap::from_pointee(RoutingTable { map, queues, by_address }),
            rebuild_lock: Mutex::default(),
        });
        tokio::spawn(Self::follow_topology(Arc::downgrade(&slot_queues), changes));
        slot_queues
    }

    /// Rebuilds the table after each change of the slot map, until the client is dropped.
    async fn follow_topology(slot_queues: Weak<Self>, mut changes: watch::Receiver<()>) {
        while changes.changed().await.is_ok() {
            let Some(slot_queues) = slot_queues.upgrade() else { return };
            slot_queues.rebuild_table();
        }
    }

    /// Opens a queue to each new primary of the slot map and drops the queues to all others.
    fn rebuild_table(&self) {
        let _rebuild_lock = self.rebuild_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, before) = (Arc::clone(&self.topology.map()), self.table.load());
        if Arc::ptr_eq(&map, &before.map) {
            return;
        }
        let queue = |server: &Arc<RedisInstance>| {
            let known = before.by_address.get(&server.address).cloned();
            known.unwrap_or_else(|| self.spawn_queue(server))
        };
        let queues: Vec<Queue> = map.primaries.iter().map(queue).collect();
        let addresses = map.primaries.iter().map(|server| Arc::clone(&server.address));
        let by_address = addresses.zip(queues.iter().cloned()).collect();
        self.table.store(Arc::new(RoutingTable { map, queues, by_address }));
    }

    /// Opens a queue without waiting for its connection.
    fn spawn_queue(&self, server: &Arc<RedisInstance>) -> Queue {
        let (queue, task) = ConnectionTask::with_queue(&self.redis, PrimaryWatch::fixed(server));
        tokio::spawn(task.run());
        queue
    }

    /// The queue to the primary of a slot.
    fn queue_for_slot(&self, slot: u16) -> Result<Queue, StoreError> {
        let table = self.table.load();
        let queue = table.map.primary_index(slot).and_then(|index| table.queues.get(index));
        let unassigned = || StoreError::Unreachable("no server is known to have this slot".into());
        queue.cloned().ok_or_else(unassigned)
    }

    /// The queue to a server to which a slot is being moved.
    fn queue_for_server(&self, server: &Arc<RedisInstance>) -> Queue {
        let _rebuild_lock = self.rebuild_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.table.load();
        if let Some(queue) = before.by_address.get(&server.address) {
            return queue.clone();
        }
        let queue = self.spawn_queue(server);
        let mut by_address = before.by_address.clone();
        by_address.insert(Arc::clone(&server.address), queue.clone());
        let (map, queues) = (Arc::clone(&before.map), before.queues.clone());
        self.table.store(Arc::new(RoutingTable { map, queues, by_address }));
        queue
    }

    /// Sends one check or the refunds of one slot to the slot's primary, and follows redirects.
    async fn send(
        &self,
        mut work: Work,
        deadline: Instant,
    ) -> Result<Option<CheckResult>, StoreError> {
        let Some(subject) = work.first_subject() else { return Err(StoreError::Timeout) };
        let slot = slot::of_subject(subject);
        let mut redirected_to = None;
        loop {
            let queue = match &redirected_to {
                Some(server) => self.queue_for_server(server),
                None => self.queue_for_slot(slot)?,
            };
            let sent = queue.send(work.clone(), deadline)?;
            let redirect = match receive_results(sent, work.checks.len()).await.pop().transpose() {
                Ok(result) => return Ok(result),
                Err(CallError::Failed(error)) => return Err(error),
                Err(CallError::Redirected(redirect)) => redirect,
            };
            redirected_to = self.topology.follow_redirect(redirect, slot, deadline).await?;
            work.is_asking = redirected_to.is_some();
            self.rebuild_table();
        }
    }
}

//! A client's queues to the primaries of a Cluster: for each slot the one that leads to its holder.
//!
//! A queue is made when a primary first appears and ends when it holds nothing any more. What did not
//! run is sent on to where the Cluster says; what may have run is not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use smallvec::smallvec;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection_task::ConnectionTask;
use super::queue::{CallError, Queue, Work, receive_results};
use crate::limit::{Charges, Refund, Subject};
use crate::store::StoreVerdict;
use crate::store::redis::cluster::{SlotMap, Topology, slot};
use crate::store::redis::{Redis, StoreError, instance::RedisInstance};

/// The queues of one client.
pub(super) struct ShardRouter {
    redis: Arc<Redis>,
    topology: Arc<Topology>,
    table: ArcSwap<RoutingTable>,
    /// Whoever makes another table: of two at once, one would make its queues for nothing.
    rebuild_lock: Mutex<()>,
}

/// Wires as one map has them.
struct RoutingTable {
    map: Arc<SlotMap>,
    /// In the order of the map's primaries.
    queues: Vec<Queue>,
    /// By address; also those to servers which hold nothing yet, but are about to.
    by_address: HashMap<Arc<str>, Queue>,
}

impl ShardRouter {
    /// Wires to all primaries that can be reached now.
    pub(super) async fn connect(redis: &Arc<Redis>, topology: &Arc<Topology>) -> Arc<Self> {
        if topology.map().primaries.is_empty()
            && let Err(error) = topology.refresh().await
        {
            tracing::debug!(%error, "the cluster's slots are not known yet");
        }
        let changes = topology.subscribe();
        let map = Arc::clone(&topology.map());
        let queues = join_all(map.primaries.iter().map(async |server| {
            let (queue, mut task) = ConnectionTask::with_queue(redis, server);
            task.connect_once().await;
            tokio::spawn(task.run());
            queue
        }));
        let queues = queues.await;
        let addresses = map.primaries.iter().map(|server| Arc::clone(&server.address));
        let by_address = addresses.zip(queues.iter().cloned()).collect();
        let router = Arc::new(Self {
            redis: Arc::clone(redis),
            topology: Arc::clone(topology),
            table: ArcSwap::from_pointee(RoutingTable { map, queues, by_address }),
            rebuild_lock: Mutex::default(),
        });
        tokio::spawn(Self::follow_topology(Arc::downgrade(&router), changes));
        router
    }

    /// Follows the map for as long as there is a client, also while nobody asks.
    async fn follow_topology(router: Weak<Self>, mut changes: watch::Receiver<()>) {
        while changes.changed().await.is_ok() {
            let Some(router) = router.upgrade() else { return };
            router.rebuild_table();
        }
    }

    /// Has a queue to each holder of the map at this moment, and to no others.
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

    /// A queue that connects as its first work comes.
    fn spawn_queue(&self, server: &Arc<RedisInstance>) -> Queue {
        let (queue, task) = ConnectionTask::with_queue(&self.redis, server);
        tokio::spawn(task.run());
        queue
    }

    /// The queue to the holder of a slot.
    fn queue_for_slot(&self, slot: u16) -> Result<Queue, StoreError> {
        let table = self.table.load();
        let queue = table.map.primary_index(slot).and_then(|index| table.queues.get(index));
        let unassigned = || StoreError::Unreachable("no server is known to have this slot".into());
        queue.cloned().ok_or_else(unassigned)
    }

    /// The queue to a server to which a slot is on its way.
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

    /// Judges one check whose subjects lie together.
    pub(super) async fn judge(
        &self,
        charges: &Charges,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        let Some(first) = charges.first() else { return Err(StoreError::Timeout) };
        let work = Work { checks: smallvec![charges.clone()], ..Work::default() };
        let answer = self.send(first.subject, work, deadline).await?;
        answer.ok_or(StoreError::Timeout)
    }

    /// Gives back, each to its slot.
    pub(super) async fn refund(
        &self,
        refunds: Vec<Refund>,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let sent = refunds.into_iter().map(|refund| {
            let subject = refund.charge.subject;
            self.send(subject, Work { refunds: vec![refund], ..Work::default() }, deadline)
        });
        join_all(sent).await.into_iter().try_for_each(|done| done.map(drop))
    }

    /// Has work done where the subject lies, and again where it has not run.
    async fn send(
        &self,
        subject: Subject,
        mut work: Work,
        deadline: Instant,
    ) -> Result<Option<StoreVerdict>, StoreError> {
        let slot = slot::of_subject(subject);
        let mut redirected_to = None;
        loop {
            let queue = match &redirected_to {
                Some(server) => self.queue_for_server(server),
                None => self.queue_for_slot(slot)?,
            };
            let sent = queue.send(work.clone(), deadline)?;
            let redirect = match receive_results(sent, work.checks.len()).await.pop().transpose() {
                Ok(answer) => return Ok(answer),
                Err(CallError::Failed(error)) => return Err(error),
                Err(CallError::Redirected(redirect)) => redirect,
            };
            redirected_to = self.topology.follow_redirect(redirect, slot, deadline).await?;
            work.is_asking = redirected_to.is_some();
            self.rebuild_table();
        }
    }
}

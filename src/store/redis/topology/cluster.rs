//! The slots of a Redis Cluster and their primaries, followed as they change.
//!
//! The primaries are asked with CLUSTER SLOTS every two seconds, and at once if a connection to one
//! fails or a server replies MOVED, with a backoff while that changes nothing. The majority's reply
//! counts, because a primary that was cut off still reports old slots. This file sends no other
//! commands and counts nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use futures_util::future::join_all;
use redis::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::slot;
use super::slot_map::{NodeAddress, SlotMap, SlotTable};
use crate::limit::Subject;
use crate::store::redis::instance::RedisInstance;
use crate::store::redis::redirect::Redirect;
use crate::store::redis::url::{Connector, InvalidUrl};
use crate::store::redis::{StoreError, jittered};

/// The longest time between two refreshes while no connection fails.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// The shortest pause between two refreshes, so that many requests at once cause one refresh.
const MIN_REFRESH_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause while requested refreshes change nothing. All nodes ask all primaries for as
/// long as one is lost, and the replies are as long as the Cluster is large.
const MAX_REFRESH_PAUSE: Duration = Duration::from_millis(400);
/// The timeout for one server's reply.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(300);
/// The delay before a retry while a slot is being moved.
const TRY_AGAIN_DELAY: Duration = Duration::from_millis(2);
/// The most subjects to try in search of one whose slot a server holds.
const MAX_PROBE_SUBJECTS: u64 = 4_096;

/// The servers of a Cluster and the slots that they hold.
pub(in crate::store::redis) struct ClusterTopology {
    connector: Connector,
    /// The servers in the operator's URL.
    pub(super) seeds: Vec<Arc<RedisInstance>>,
    known_nodes: Mutex<KnownNodes>,
    map: ArcSwap<SlotMap>,
    /// Notified after each change of the map.
    changed: watch::Sender<()>,
    /// Notified when a connection error or a redirect shows that the map may be out of date.
    refresh_requested: Notify,
}

/// Servers learned from replies to CLUSTER SLOTS and from redirects.
#[derive(Default)]
struct KnownNodes {
    by_address: HashMap<NodeAddress, Arc<RedisInstance>>,
    /// Asked for the slots as well if the primaries do not reply.
    replicas: Vec<Arc<RedisInstance>>,
}

impl ClusterTopology {
    /// A Cluster of which only the seeds are known. Connects to nothing yet.
    pub(super) fn new(connector: Connector, seeds: &[NodeAddress]) -> Result<Self, InvalidUrl> {
        let instances =
            seeds.iter().map(|(host, port)| RedisInstance::new(&connector, host, *port));
        let seeds = instances.collect::<Result<_, _>>()?;
        Ok(Self {
            connector,
            seeds,
            known_nodes: Mutex::default(),
            map: ArcSwap::from_pointee(SlotMap::empty()),
            changed: watch::Sender::new(()),
            refresh_requested: Notify::new(),
        })
    }

    /// The current slot map.
    pub(in crate::store::redis) fn map(&self) -> Guard<Arc<SlotMap>> {
        self.map.load()
    }

    /// A receiver that is notified after each change of the slot map.
    pub(in crate::store::redis) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Requests a refresh of the slot map soon.
    pub(in crate::store::redis) fn request_refresh(&self) {
        self.refresh_requested.notify_one();
    }

    /// The primary that holds the slot.
    pub(super) fn primary_of(&self, slot: u16) -> Result<Arc<RedisInstance>, StoreError> {
        self.map().primary(slot).cloned().ok_or_else(unassigned_slot)
    }

    /// A subject that belongs to no client and whose slot this server holds. `None` if the server
    /// holds so few slots that none is found.
    pub(super) fn probe_subject(&self, server: &RedisInstance) -> Option<Subject> {
        let map = self.map();
        // A random start: if the slot of one probe is being moved, the next probe has another slot.
        let from = getrandom::u64().unwrap_or_default();
        let subjects = (0..MAX_PROBE_SUBJECTS)
            .map(|number| Subject::policy("", &format!("probe{}", from.wrapping_add(number))));
        subjects.into_iter().find(|subject| map.is_primary_of(server, slot::of_subject(*subject)))
    }

    /// Refreshes the map at intervals and on request. Never returns.
    pub(super) async fn run_refresh(&self) {
        let mut pause = MIN_REFRESH_PAUSE;
        loop {
            let requested = self.refresh_requested.notified();
            let is_requested = timeout(jittered(REFRESH_INTERVAL), requested).await.is_ok();
            let before = self.map.load_full();
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "the slots of the cluster could not be refreshed");
            }
            let is_in_vain = is_requested && Arc::ptr_eq(&before, &self.map());
            pause = if is_in_vain { (pause * 2).min(MAX_REFRESH_PAUSE) } else { MIN_REFRESH_PAUSE };
            sleep(jittered(pause)).await;
        }
    }

    /// Refreshes the map from the primaries' replies. If half of them or more do not reply, all
    /// other known servers are asked too.
    pub(in crate::store::redis) async fn refresh(&self) -> Result<(), StoreError> {
        let map = self.map.load_full();
        let (mut replicas, mut misconfigured) = (BTreeSet::new(), None);
        let mut tables = fetch_slot_tables(&map.primaries, &mut replicas, &mut misconfigured).await;
        if tables.len() * 2 <= map.primaries.len() {
            let mut others = self.seeds.clone();
            others.extend(self.lock_known_nodes().replicas.iter().cloned());
            others.retain(|other| map.primaries.iter().all(|known| known.address != other.address));
            tables.extend(fetch_slot_tables(&others, &mut replicas, &mut misconfigured).await);
        }
        let votes = |table: &&SlotTable| tables.iter().filter(|other| other == table).count();
        let Some(majority) = tables.iter().rev().max_by_key(votes) else {
            let unreachable = || StoreError::Unreachable("no server of the cluster replies".into());
            return Err(misconfigured.unwrap_or_else(unreachable));
        };
        self.apply(majority, &replicas)
    }

    fn apply(&self, table: &SlotTable, replicas: &BTreeSet<NodeAddress>) -> Result<(), StoreError> {
        let mut map = SlotMap::empty();
        for (first, last, address) in &table.ranges {
            map.assign(usize::from(*first)..=usize::from(*last), &self.server_at(address)?);
        }
        let replicas = replicas.iter().map(|address| self.server_at(address));
        let replicas = replicas.collect::<Result<Vec<_>, _>>()?;
        let mut known_nodes = self.lock_known_nodes();
        let used = |server: &Arc<RedisInstance>| {
            map.primaries.iter().chain(&replicas).any(|other| Arc::ptr_eq(other, server))
        };
        known_nodes.by_address.retain(|_, server| used(server));
        known_nodes.replicas = replicas;
        drop(known_nodes);
        if !map.agrees_with(&self.map()) {
            tracing::info!("the cluster's slots are held by {:?}", map.primaries);
            self.map.store(Arc::new(map));
            self.changed.send_replace(());
        }
        Ok(())
    }

    /// The server at an address. Each call with the same address returns the same instance.
    fn server_at(&self, address: &NodeAddress) -> Result<Arc<RedisInstance>, StoreError> {
        if let Some(known) = self.lock_known_nodes().by_address.get(address) {
            return Ok(Arc::clone(known));
        }
        let server = RedisInstance::new(&self.connector, &address.0, address.1)
            .map_err(|error| StoreError::Unreachable(error.to_string()))?;
        Ok(Arc::clone(self.lock_known_nodes().by_address.entry(address.clone()).or_insert(server)))
    }

    /// The server to send a redirected command to: a specific node after ASKING, or `None` for the
    /// slot's current primary.
    pub(in crate::store::redis) async fn follow_redirect(
        &self,
        redirect: Redirect,
        slot: u16,
        deadline: Instant,
    ) -> Result<Option<Arc<RedisInstance>>, StoreError> {
        if Instant::now() >= deadline {
            return Err(StoreError::Timeout);
        }
        match redirect {
            Redirect::Moved(host, port) => {
                let server = self.server_at(&(host, port))?;
                if !self.map().is_primary_of(&server, slot) {
                    self.map.rcu(|map| map.with_slot(slot, &server));
                    self.changed.send_replace(());
                    self.request_refresh();
                }
                Ok(None)
            }
            Redirect::Ask(host, port) => self.server_at(&(host, port)).map(Some),
            Redirect::TryAgain => {
                sleep(TRY_AGAIN_DELAY).await;
                Ok(None)
            }
            Redirect::ClusterDown => {
                self.request_refresh();
                Err(unassigned_slot())
            }
        }
    }

    /// A poisoned lock is used all the same: no method leaves the nodes half changed.
    fn lock_known_nodes(&self) -> MutexGuard<'_, KnownNodes> {
        self.known_nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unassigned_slot() -> StoreError {
    StoreError::Refused("no server of the cluster holds this slot now".into())
}

/// The slot tables of the servers that reply in time. Clients probe their connections to the
/// others. `misconfigured` becomes the last error that only an operator mends.
async fn fetch_slot_tables(
    servers: &[Arc<RedisInstance>],
    replicas: &mut BTreeSet<NodeAddress>,
    misconfigured: &mut Option<StoreError>,
) -> Vec<SlotTable> {
    let replies = join_all(servers.iter().map(|server| fetch_slots(server))).await;
    let mut tables = Vec::new();
    for (server, reply) in servers.iter().zip(replies) {
        match reply.and_then(|reply| SlotTable::parse(&reply, server.host(), replicas)) {
            Ok(reply) => tables.push(reply),
            Err(error) => {
                tracing::debug!(%error, server = &*server.address, "no reply to CLUSTER SLOTS");
                server.request_probes();
                if matches!(error, StoreError::Misconfigured(_)) {
                    *misconfigured = Some(error);
                }
            }
        }
    }
    tables
}

async fn fetch_slots(server: &RedisInstance) -> Result<Value, StoreError> {
    let mut command = redis::cmd("CLUSTER");
    let reply = timeout(REFRESH_TIMEOUT, server.run_command(command.arg("SLOTS"), false)).await;
    reply.unwrap_or(Err(StoreError::Timeout))?.map_err(|_| unassigned_slot())
}

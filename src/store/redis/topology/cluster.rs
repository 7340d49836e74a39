//! A Redis Cluster: which primary holds which slot, followed as it changes.
//!
//! Asked of the primaries themselves every two seconds, and at once where one of them is in
//! trouble or says MOVED. What the majority of them says counts: one that was cut off remembers how
//! things were. Nothing is counted here, and no command of others is sent.

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
use crate::store::redis::StoreError;
use crate::store::redis::instance::RedisInstance;
use crate::store::redis::redirect::Redirect;
use crate::store::redis::url::{Connector, InvalidUrl};

/// How often the slots are asked for while all is well.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// How long after an answer the next question may be, so that a storm of trouble is one question.
const MIN_REFRESH_PAUSE: Duration = Duration::from_millis(50);
/// The longest that a server is waited for.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(300);
/// How long to wait where a slot is on its way.
const TRY_AGAIN_DELAY: Duration = Duration::from_millis(2);
/// How many subjects are tried in search of one whose slot a server holds.
const MAX_PROBE_SUBJECTS: u64 = 4_096;

/// The servers of a Cluster and who of them holds what.
pub(in crate::store::redis) struct ClusterTopology {
    connector: Connector,
    /// Those that the operator named.
    seeds: Vec<Arc<RedisInstance>>,
    known_nodes: Mutex<KnownNodes>,
    map: ArcSwap<SlotMap>,
    /// Changes with the map.
    changed: watch::Sender<()>,
    /// Somebody has found the map wrong.
    refresh_requested: Notify,
}

/// Servers that were named by others.
#[derive(Default)]
struct KnownNodes {
    by_address: HashMap<NodeAddress, Arc<RedisInstance>>,
    /// They know the slots as well, and are asked where the primaries do not answer.
    replicas: Vec<Arc<RedisInstance>>,
}

impl ClusterTopology {
    /// Knows the seeds only.
    pub(super) fn new(connector: Connector, seeds: &[NodeAddress]) -> Result<Self, InvalidUrl> {
        let made = seeds.iter().map(|(host, port)| RedisInstance::new(&connector, host, *port));
        let seeds = made.collect::<Result<_, _>>()?;
        Ok(Self {
            connector,
            seeds,
            known_nodes: Mutex::default(),
            map: ArcSwap::from_pointee(SlotMap::empty()),
            changed: watch::Sender::new(()),
            refresh_requested: Notify::new(),
        })
    }

    /// The map at this moment.
    pub(in crate::store::redis) fn map(&self) -> Guard<Arc<SlotMap>> {
        self.map.load()
    }

    /// Tells of every map to come.
    pub(in crate::store::redis) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Has the slots asked for soon.
    pub(in crate::store::redis) fn request_refresh(&self) {
        self.refresh_requested.notify_one();
    }

    /// The server that holds the slot.
    pub(super) fn primary_of(&self, slot: u16) -> Result<Arc<RedisInstance>, StoreError> {
        self.map().primary(slot).cloned().ok_or_else(unassigned_slot)
    }

    /// A subject of nobody's whose slot this server holds; none where it holds few.
    pub(super) fn probe_subject(&self, server: &RedisInstance) -> Option<Subject> {
        let map = self.map();
        // Another one each time: a slot that is on its way to elsewhere proves nothing.
        let from = getrandom::u64().unwrap_or_default();
        let subjects = (0..MAX_PROBE_SUBJECTS)
            .map(|number| Subject::policy("", &format!("probe{}", from.wrapping_add(number))));
        subjects.into_iter().find(|subject| map.is_primary_of(server, slot::of_subject(*subject)))
    }

    /// Keeps the map true, for ever.
    pub(super) async fn run_refresh(&self) {
        loop {
            let _at_the_latest = timeout(REFRESH_INTERVAL, self.refresh_requested.notified()).await;
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "the cluster's slots are not known anew");
            }
            sleep(MIN_REFRESH_PAUSE).await;
        }
    }

    /// Asks who holds which slots: the primaries, and where they do not answer all others known.
    pub(in crate::store::redis) async fn refresh(&self) -> Result<(), StoreError> {
        let map = self.map.load_full();
        let mut replicas = BTreeSet::new();
        let mut tables = fetch_slot_tables(&map.primaries, &mut replicas).await;
        if tables.len() * 2 <= map.primaries.len() {
            let mut others = self.seeds.clone();
            others.extend(self.lock_known_nodes().replicas.iter().cloned());
            others.retain(|other| map.primaries.iter().all(|known| known.address != other.address));
            tables.extend(fetch_slot_tables(&others, &mut replicas).await);
        }
        let votes = |table: &&SlotTable| tables.iter().filter(|other| other == table).count();
        let Some(majority) = tables.iter().rev().max_by_key(votes) else {
            return Err(StoreError::Unreachable("no server of the cluster answers".into()));
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

    /// The server at an address: the same one each time.
    fn server_at(&self, address: &NodeAddress) -> Result<Arc<RedisInstance>, StoreError> {
        if let Some(known) = self.lock_known_nodes().by_address.get(address) {
            return Ok(Arc::clone(known));
        }
        let server = RedisInstance::new(&self.connector, &address.0, address.1)
            .map_err(|error| StoreError::Unreachable(error.to_string()))?;
        Ok(Arc::clone(self.lock_known_nodes().by_address.entry(address.clone()).or_insert(server)))
    }

    /// Whom to ask next for what has not run: somebody in particular, who has to be told ASKING, or
    /// whoever holds the slot by then.
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

    /// A panic elsewhere leaves this whole.
    fn lock_known_nodes(&self) -> MutexGuard<'_, KnownNodes> {
        self.known_nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unassigned_slot() -> StoreError {
    StoreError::Refused("no server of the cluster has this slot now".into())
}

/// What those say who answer in time; of the others, those who have connections to them learn.
async fn fetch_slot_tables(
    servers: &[Arc<RedisInstance>],
    replicas: &mut BTreeSet<NodeAddress>,
) -> Vec<SlotTable> {
    let answers = join_all(servers.iter().map(|server| fetch_slots(server))).await;
    let mut tables = Vec::new();
    for (server, answer) in servers.iter().zip(answers) {
        match answer.and_then(|answer| SlotTable::parse(&answer, server.host(), replicas)) {
            Ok(answer) => tables.push(answer),
            Err(error) => {
                tracing::debug!(%error, server = &*server.address, "CLUSTER SLOTS was not answered");
                server.request_probes();
            }
        }
    }
    tables
}

async fn fetch_slots(server: &RedisInstance) -> Result<Value, StoreError> {
    let mut command = redis::cmd("CLUSTER");
    let answer = timeout(REFRESH_TIMEOUT, server.run_command(command.arg("SLOTS"), false)).await;
    answer.unwrap_or(Err(StoreError::Timeout))?.map_err(|_| unassigned_slot())
}

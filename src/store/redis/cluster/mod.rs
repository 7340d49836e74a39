//! A Redis Cluster: which primary holds which slot, followed as it changes.
//!
//! Asked of the primaries themselves every two seconds, and at once where one of them is in
//! trouble or says MOVED. What the majority of them says counts: one that was cut off remembers how
//! things were. Nothing is counted here, and no command of others is sent.

mod map;
mod redirect;
pub(super) mod slot;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use futures_util::future::join_all;
use redis::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use self::map::{Address, Told};
use super::url::{Connector, InvalidUrl};
use super::{Error, server::Server};
use crate::limit::Subject;
pub(super) use map::Map;
pub(super) use redirect::Redirect;

/// How often the slots are asked for while all is well.
const PERIOD: Duration = Duration::from_secs(2);
/// How long after an answer the next question may be, so that a storm of trouble is one question.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest that a server is waited for.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long to wait where a slot is on its way.
const UNDER_WAY: Duration = Duration::from_millis(2);
/// How many subjects are tried in search of one whose slot a server holds.
const TRIES: u64 = 4_096;

/// The servers of a Cluster and who of them holds what.
pub(super) struct Topology {
    connector: Connector,
    /// Those that the operator named.
    seeds: Vec<Arc<Server>>,
    met: Mutex<Met>,
    map: ArcSwap<Map>,
    /// Changes with the map.
    changed: watch::Sender<()>,
    /// Somebody has found the map wrong.
    stale: Notify,
}

/// Servers that were named by others.
#[derive(Default)]
struct Met {
    by_address: HashMap<Address, Arc<Server>>,
    /// They know the slots as well, and are asked where the primaries do not answer.
    replicas: Vec<Arc<Server>>,
}

impl Topology {
    /// Knows the seeds only.
    pub(super) fn new(connector: Connector, seeds: &[Address]) -> Result<Self, InvalidUrl> {
        let made = seeds.iter().map(|(host, port)| Server::new(&connector, host, *port));
        let seeds = made.collect::<Result<_, _>>()?;
        Ok(Self {
            connector,
            seeds,
            met: Mutex::default(),
            map: ArcSwap::from_pointee(Map::empty()),
            changed: watch::Sender::new(()),
            stale: Notify::new(),
        })
    }

    /// The map at this moment.
    pub(super) fn map(&self) -> Guard<Arc<Map>> {
        self.map.load()
    }

    /// Tells of every map to come.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Has the slots asked for soon.
    pub(super) fn doubt(&self) {
        self.stale.notify_one();
    }

    /// The server that holds the slot.
    pub(super) fn holder(&self, slot: u16) -> Result<Arc<Server>, Error> {
        self.map().holder(slot).cloned().ok_or_else(nobody)
    }

    /// A subject of nobody's whose slot this server holds; none where it holds few.
    pub(super) fn subject_at(&self, server: &Server) -> Option<Subject> {
        use std::hash::{BuildHasher as _, RandomState};
        let map = self.map();
        // Another one each time: a slot that is on its way to elsewhere proves nothing.
        let from = RandomState::new().hash_one(&server.address);
        let subjects = (0..TRIES)
            .map(|number| Subject::policy("", &format!("probe{}", from.wrapping_add(number))));
        subjects.into_iter().find(|subject| map.holds(server, slot::of(*subject)))
    }

    /// Keeps the map true, for ever.
    pub(super) async fn follow(&self) {
        loop {
            let _at_the_latest = timeout(PERIOD, self.stale.notified()).await;
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "the cluster's slots are not known anew");
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks who holds which slots: the primaries, and where they do not answer all others known.
    pub(super) async fn refresh(&self) -> Result<(), Error> {
        let map = self.map.load_full();
        let mut replicas = BTreeSet::new();
        let mut told = ask_all(&map.holders, &mut replicas).await;
        if told.len() * 2 <= map.holders.len() {
            let mut others = self.seeds.clone();
            others.extend(self.met().replicas.iter().cloned());
            others.retain(|other| map.holders.iter().all(|known| known.address != other.address));
            told.extend(ask_all(&others, &mut replicas).await);
        }
        let votes = |told_by_one: &&Told| told.iter().filter(|other| other == told_by_one).count();
        let Some(believed) = told.iter().rev().max_by_key(votes) else {
            return Err(Error::Unreachable("no server of the cluster answers".into()));
        };
        self.adopt(believed, &replicas)
    }

    fn adopt(&self, told: &Told, replicas: &BTreeSet<Address>) -> Result<(), Error> {
        let mut map = Map::empty();
        for (first, last, address) in &told.ranges {
            map.give(usize::from(*first)..=usize::from(*last), &self.server(address)?);
        }
        let replicas = replicas.iter().map(|address| self.server(address));
        let replicas = replicas.collect::<Result<Vec<_>, _>>()?;
        let mut met = self.met();
        let used = |server: &Arc<Server>| {
            map.holders.iter().chain(&replicas).any(|other| Arc::ptr_eq(other, server))
        };
        met.by_address.retain(|_, server| used(server));
        met.replicas = replicas;
        drop(met);
        if !map.agrees_with(&self.map()) {
            tracing::info!("the cluster's slots are held by {:?}", map.holders);
            self.map.store(Arc::new(map));
            self.changed.send_replace(());
        }
        Ok(())
    }

    /// The server at an address: the same one each time.
    fn server(&self, address: &Address) -> Result<Arc<Server>, Error> {
        if let Some(known) = self.met().by_address.get(address) {
            return Ok(Arc::clone(known));
        }
        let server = Server::new(&self.connector, &address.0, address.1)
            .map_err(|error| Error::Unreachable(error.to_string()))?;
        Ok(Arc::clone(self.met().by_address.entry(address.clone()).or_insert(server)))
    }

    /// Whom to ask next for what has not run: somebody in particular, who has to be told ASKING, or
    /// whoever holds the slot by then.
    pub(super) async fn obey(
        &self,
        redirect: Redirect,
        slot: u16,
        deadline: Instant,
    ) -> Result<Option<Arc<Server>>, Error> {
        if Instant::now() >= deadline {
            return Err(Error::Timeout);
        }
        match redirect {
            Redirect::Moved(host, port) => {
                let server = self.server(&(host, port))?;
                if !self.map().holds(&server, slot) {
                    self.map.rcu(|map| map.with(slot, &server));
                    self.changed.send_replace(());
                    self.doubt();
                }
                Ok(None)
            }
            Redirect::Ask(host, port) => self.server(&(host, port)).map(Some),
            Redirect::Again => {
                sleep(UNDER_WAY).await;
                Ok(None)
            }
            Redirect::Nobody => {
                self.doubt();
                Err(nobody())
            }
        }
    }

    /// A panic elsewhere leaves this whole.
    fn met(&self) -> MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nobody() -> Error {
    Error::Refused("no server of the cluster has this slot now".into())
}

/// What those say who answer in time; of the others, those who have connections to them learn.
async fn ask_all(servers: &[Arc<Server>], replicas: &mut BTreeSet<Address>) -> Vec<Told> {
    let answers = join_all(servers.iter().map(|server| ask(server))).await;
    let mut told = Vec::new();
    for (server, answer) in servers.iter().zip(answers) {
        match answer.and_then(|answer| Told::read(&answer, server.host(), replicas)) {
            Ok(answer) => told.push(answer),
            Err(error) => {
                tracing::debug!(%error, server = &*server.address, "CLUSTER SLOTS was not answered");
                server.trouble.send_replace(());
            }
        }
    }
    told
}

async fn ask(server: &Server) -> Result<Value, Error> {
    let mut question = redis::cmd("CLUSTER");
    let answer = timeout(PATIENCE, server.ask(question.arg("SLOTS"), false)).await;
    answer.unwrap_or(Err(Error::Timeout))?.map_err(|_| nobody())
}

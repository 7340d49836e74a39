//! A lane's wires to the primaries of a Cluster: for each slot the one that leads to its holder.
//!
//! A wire is made when a primary first appears and ends when it holds nothing any more. What did not
//! run is sent on to where the Cluster says; what may have run is not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use smallvec::smallvec;
use tokio::sync::watch;
use tokio::time::Instant;

use super::driver::Driver;
use super::wire::{Unjudged, Wire, Work, receive};
use crate::limit::{Charges, Refund, Subject};
use crate::store::Answer;
use crate::store::redis::cluster::{Map, Topology, slot};
use crate::store::redis::{Error, Redis, server::Server};

/// The wires of one lane.
pub(super) struct Routes {
    redis: Arc<Redis>,
    topology: Arc<Topology>,
    table: ArcSwap<Table>,
    /// Whoever makes another table: of two at once, one would make its wires for nothing.
    making: Mutex<()>,
}

/// Wires as one map has them.
struct Table {
    map: Arc<Map>,
    /// In the order of the map's holders.
    holders: Vec<Wire>,
    /// By address; also those to servers which hold nothing yet, but are about to.
    by_address: HashMap<Arc<str>, Wire>,
}

impl Routes {
    /// Wires to all primaries that can be reached now.
    pub(super) async fn open(redis: &Arc<Redis>, topology: &Arc<Topology>) -> Arc<Self> {
        if topology.map().holders.is_empty()
            && let Err(error) = topology.refresh().await
        {
            tracing::debug!(%error, "the cluster's slots are not known yet");
        }
        let changes = topology.changes();
        let map = Arc::clone(&topology.map());
        let wires = join_all(map.holders.iter().map(async |server| {
            let (wire, mut driver) = Driver::with_wire(redis, server);
            driver.connect_once().await;
            tokio::spawn(driver.run());
            wire
        }));
        let holders = wires.await;
        let addresses = map.holders.iter().map(|server| Arc::clone(&server.address));
        let by_address = addresses.zip(holders.iter().cloned()).collect();
        let routes = Arc::new(Self {
            redis: Arc::clone(redis),
            topology: Arc::clone(topology),
            table: ArcSwap::from_pointee(Table { map, holders, by_address }),
            making: Mutex::default(),
        });
        tokio::spawn(Self::follow(Arc::downgrade(&routes), changes));
        routes
    }

    /// Follows the map for as long as there is a lane, also while nobody asks.
    async fn follow(routes: Weak<Self>, mut changes: watch::Receiver<()>) {
        while changes.changed().await.is_ok() {
            let Some(routes) = routes.upgrade() else { return };
            routes.catch_up();
        }
    }

    /// Has a wire to each holder of the map at this moment, and to no others.
    fn catch_up(&self) {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, before) = (Arc::clone(&self.topology.map()), self.table.load());
        if Arc::ptr_eq(&map, &before.map) {
            return;
        }
        let wire = |server: &Arc<Server>| {
            let known = before.by_address.get(&server.address).cloned();
            known.unwrap_or_else(|| self.wire(server))
        };
        let holders: Vec<Wire> = map.holders.iter().map(wire).collect();
        let addresses = map.holders.iter().map(|server| Arc::clone(&server.address));
        let by_address = addresses.zip(holders.iter().cloned()).collect();
        self.table.store(Arc::new(Table { map, holders, by_address }));
    }

    /// A wire that connects as its first work comes.
    fn wire(&self, server: &Arc<Server>) -> Wire {
        let (wire, driver) = Driver::with_wire(&self.redis, server);
        tokio::spawn(driver.run());
        wire
    }

    /// The wire to the holder of a slot.
    fn wire_for(&self, slot: u16) -> Result<Wire, Error> {
        let table = self.table.load();
        let wire = table.map.place(slot).and_then(|place| table.holders.get(place));
        let nobody = || Error::Unreachable("no server is known to have this slot".into());
        wire.cloned().ok_or_else(nobody)
    }

    /// The wire to a server to which a slot is on its way.
    fn wire_to(&self, server: &Arc<Server>) -> Wire {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.table.load();
        if let Some(wire) = before.by_address.get(&server.address) {
            return wire.clone();
        }
        let wire = self.wire(server);
        let mut by_address = before.by_address.clone();
        by_address.insert(Arc::clone(&server.address), wire.clone());
        let (map, holders) = (Arc::clone(&before.map), before.holders.clone());
        self.table.store(Arc::new(Table { map, holders, by_address }));
        wire
    }

    /// Judges one check whose subjects lie together.
    pub(super) async fn judge(
        &self,
        charges: &Charges,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let Some(first) = charges.first() else { return Err(Error::Timeout) };
        let work = Work { checks: smallvec![charges.clone()], ..Work::default() };
        let answer = self.send(first.subject, work, deadline).await?;
        answer.ok_or(Error::Timeout)
    }

    /// Gives back, each to its slot.
    pub(super) async fn refund(
        &self,
        refunds: Vec<Refund>,
        deadline: Instant,
    ) -> Result<(), Error> {
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
    ) -> Result<Option<Answer>, Error> {
        let slot = slot::of(subject);
        let mut elsewhere = None;
        loop {
            let wire = match &elsewhere {
                Some(server) => self.wire_to(server),
                None => self.wire_for(slot)?,
            };
            let sent = wire.send(work.clone(), deadline)?;
            let redirect = match receive(sent, work.checks.len()).await.pop().transpose() {
                Ok(answer) => return Ok(answer),
                Err(Unjudged::Failed(error)) => return Err(error),
                Err(Unjudged::Elsewhere(redirect)) => redirect,
            };
            elsewhere = self.topology.obey(redirect, slot, deadline).await?;
            work.is_asking = elsewhere.is_some();
            self.catch_up();
        }
    }
}

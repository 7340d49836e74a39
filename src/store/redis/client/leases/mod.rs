//! Leases: units that this node has already charged in Redis and spends from memory.
//!
//! Leases are for limits that the catalog declares `leased`. A lease is an ordinary charge made in
//! advance, so Redis knows nothing of leases, and a crash loses one lease at most. Its lifetime,
//! [`LEASE_LIFETIME`], begins before the request for it is sent. Every unit that is spent was
//! therefore charged at most that long ago, hence the published bound on admitted requests in any
//! time `t`: `burst + rate * (t + LEASE_LIFETIME)`. Units that are unspent at the end of the
//! lifetime, when demand ends, or when the node stops, are refunded like any charge. Units of a
//! limit that has been replaced by a new revision are not.
//!
//! All workers of a node spend the same leases. After a refusal units are scarce: then a counter has
//! one call on its way at a time, for the whole node, and its checks wait for the response or are
//! refused from memory. So the number of calls does not grow with workers or connections.

mod counter;
mod held;
#[cfg(all(test, feature = "shuttle"))]
mod model;
mod renewal;
#[cfg(all(test, not(feature = "shuttle")))]
mod scarcity;
#[cfg(all(test, not(feature = "shuttle")))]
mod reserved_simulation;
#[cfg(all(test, not(feature = "shuttle")))]
mod simulation;
mod sizing;

use std::sync::{Arc, PoisonError};
#[cfg(not(feature = "shuttle"))]
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use foldhash::HashMap;
pub use held::HeldLeases;
#[cfg(feature = "shuttle")]
use shuttle::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::algorithm::CounterState;
use crate::limit::{Charge, CounterId, Refund};
use crate::time::Micros;
use counter::LeasedCounter;
pub(super) use renewal::{PendingRenewal, Renewal};
use sizing::{is_worth_leasing, pause};

/// The lifetime of a lease: the time within which its units may be spent.
const LEASE_LIFETIME: Duration = Duration::from_millis(200);
/// The parts of the table. Workers that charge different counters seldom wait for each other.
const SHARDS: usize = 16;
/// The most counters with leases in a part of the table. Checks of further counters are judged by
/// Redis, until idle counters have been evicted.
const MAX_COUNTERS: usize = 2_500;

/// The leases of one node.
#[derive(Default)]
pub(in crate::store::redis) struct Leases {
    shards: [Shard; SHARDS],
    /// Notified of each lease, so that an idle node sleeps.
    sweep_needed: Notify,
}

/// A part of the table, in cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Shard(Mutex<LeaseTable>);

#[derive(Default)]
struct LeaseTable {
    by_counter: HashMap<CounterId, LeasedCounter>,
    last_evicted_at: Duration,
}

/// The charge that leased units come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaseOrigin {
    /// The time of the charge, by Redis' clock.
    charged_at: Micros,
    /// The time until which the units may be spent, by the boot clock.
    expires_at: Duration,
}

/// The coverage of one charge by leases.
pub(super) enum Coverage {
    /// The charge was taken from a lease. The state is the counter's before the charge.
    Leased(CounterState, LeaseOrigin),
    /// No lease covers the charge: Redis has to judge it.
    NotLeased,
    /// A lease is on its way that may cover the charge.
    Awaited(PendingRenewal),
    /// The charge is refused without a call: Redis has refused one, and too few units have gathered
    /// since.
    Refused(CounterState),
}

/// The fate of a charge that no lease covers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Uncovered {
    /// Redis judges it at once.
    Judged,
    /// The same, but while units are scarce it is [`Coverage::Awaited`] or [`Coverage::Refused`].
    InTurn,
}

impl Leases {
    /// True if leases may cover the charge. They cannot if its limit is created anew for each
    /// check, because a new limit ends the leases of the one before.
    pub(super) fn is_leasable(charge: &Charge) -> bool {
        let limit = &charge.limit;
        limit.leased() && charge.cost > 0 && !limit.shadow() && limit.is_declared()
    }

    /// Takes `charge` from a lease if one covers it, and records the demand. `now` is Redis' time
    /// as far as known, `clock` the boot clock. The second value is a lease to request now, so that
    /// it is granted before the last one is spent.
    pub(super) fn take(
        &self,
        charge: &Charge,
        now: Micros,
        clock: Duration,
        holders: u64,
        uncovered: Uncovered,
    ) -> (Coverage, Option<Renewal>) {
        if !is_worth_leasing(charge.limit.algorithm(), holders) {
            return (Coverage::NotLeased, None);
        }
        let id = charge.counter();
        let mut table = self.lock(id);
        if !table.has_room_for(id, clock) {
            return (Coverage::NotLeased, None);
        }
        let counter =
            table.by_counter.entry(id).or_insert_with(|| LeasedCounter::new(charge, clock));
        counter.record_demand(charge, clock);
        match counter.take(charge.cost, now, clock) {
            Coverage::NotLeased if uncovered == Uncovered::InTurn => {
                counter.take_turn(charge, now, clock, holders)
            }
            coverage => (coverage, counter.next_renewal(charge, now, clock, holders)),
        }
    }

    /// The coverage that [`Leases::take`] would give the charge now, but for one that would be
    /// [`Coverage::Awaited`]. Takes nothing, and records no demand.
    pub(super) fn peek(
        &self,
        charge: &Charge,
        now: Micros,
        clock: Duration,
        holders: u64,
        uncovered: Uncovered,
    ) -> Coverage {
        if !is_worth_leasing(charge.limit.algorithm(), holders) {
            return Coverage::NotLeased;
        }
        let peek = |counter: &mut LeasedCounter| {
            let covered = counter.peek(charge.cost, now, clock);
            let refusal = || counter.refusal(charge, now, clock, holders).map(Coverage::Refused);
            covered.or_else(|| refusal().filter(|_| uncovered == Uncovered::InTurn))
        };
        self.with_counter(charge, peek).flatten().unwrap_or(Coverage::NotLeased)
    }

    /// The state of the charge's counter, as far as this node knows it.
    pub(super) fn state(&self, charge: &Charge, now: Micros, clock: Duration) -> CounterState {
        let known = self.with_counter(charge, |counter| counter.state(now, clock));
        known.unwrap_or(CounterState::of_level(0))
    }

    /// The pause after the store has refused `charge`. There is none while a lease covers the charge:
    /// its units would drain unspent.
    pub(super) fn pause_after_refusal(
        &self,
        charge: &Charge,
        now: Micros,
        clock: Duration,
        holders: u64,
    ) -> Duration {
        let left =
            self.with_counter(charge, |counter| counter.pause_left(charge, now, clock, holders));
        left.unwrap_or_else(|| pause(&charge.limit, holders))
    }

    /// Puts back the units that were taken for a check which was then refused.
    pub(super) fn put_back(&self, charge: &Charge, origin: LeaseOrigin) {
        self.with_counter(charge, |counter| counter.put_back(charge.cost, origin));
        self.sweep_needed.notify_one();
    }

    /// Takes out the units to refund: those of leases that have expired, and of counters without
    /// demand for a moment. With `all`, takes out every unit.
    pub(super) fn take_unspent(&self, clock: Duration, all: bool) -> Vec<Refund> {
        let mut refunds = Vec::new();
        for shard in &self.shards {
            let mut table = shard.lock();
            let counters = table.by_counter.values_mut();
            refunds.extend(counters.filter_map(|counter| counter.take_unspent(clock, all)));
        }
        refunds
    }

    /// Waits until there is a lease, whose units may be unspent later.
    pub(super) async fn first_lease(&self) {
        let has_leases =
            |shard: &Shard| shard.lock().by_counter.values().any(LeasedCounter::has_leases);
        if !self.shards.iter().any(has_leases) {
            self.sweep_needed.notified().await;
        }
    }

    /// Records the level of a counter after Redis judged a charge to it.
    pub(super) fn observe_level(&self, charge: &Charge, level: u64, at: Micros) {
        if let Some(counter) = self.lock(charge.counter()).by_counter.get_mut(&charge.counter()) {
            counter.observe_level(level, at);
        }
    }

    /// Records that Redis has refused a charge: units are scarce, unless a lease covers it by now.
    pub(super) fn observe_refusal(&self, charge: &Charge, clock: Duration) {
        self.with_counter(charge, |counter| {
            if !counter.covers(charge.cost, clock) {
                counter.observe_refusal();
            }
        });
    }

    /// Ends a renewal. If Redis granted it, `charged_at` is the time of the charge, and the lease
    /// can be spent from now on.
    pub(super) fn complete_renewal(&self, renewal: &Renewal, charged_at: Option<Micros>) {
        let (charge, expires_at) = (&renewal.charge, renewal.requested_at + LEASE_LIFETIME);
        let lease = charged_at.map(|at| (charge.cost, LeaseOrigin { charged_at: at, expires_at }));
        self.with_counter(charge, |counter| counter.complete_renewal(lease));
        self.sweep_needed.notify_one();
    }

    /// Runs `access` on the counter of a charge, if there is one for the limit in this revision.
    fn with_counter<T>(
        &self,
        charge: &Charge,
        access: impl FnOnce(&mut LeasedCounter) -> T,
    ) -> Option<T> {
        let mut table = self.lock(charge.counter());
        let counter = table.by_counter.get_mut(&charge.counter());
        counter.filter(|counter| Arc::ptr_eq(&counter.limit, &charge.limit)).map(access)
    }

    /// The part of the table that has the counter. Digests are uniform in each of their bytes.
    fn lock(&self, id: CounterId) -> MutexGuard<'_, LeaseTable> {
        self.shards[usize::from(id.subject()[0]) % SHARDS].lock()
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, LeaseTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LeaseTable {
    fn has_room_for(&mut self, key: CounterId, clock: Duration) -> bool {
        if self.by_counter.len() < MAX_COUNTERS || self.by_counter.contains_key(&key) {
            return true;
        }
        if clock < self.last_evicted_at + LEASE_LIFETIME {
            return false;
        }
        self.last_evicted_at = clock;
        self.by_counter.retain(|_, counter| {
            counter.renewal().is_some() || clock < counter.window_start + 2 * LEASE_LIFETIME
        });
        self.by_counter.len() < MAX_COUNTERS
    }
}

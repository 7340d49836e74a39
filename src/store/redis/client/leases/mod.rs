//! Leases: units that this client has already charged in Redis and spends from memory.
//!
//! Leases are for limits that the catalog declares `leased`. A lease is an ordinary charge made in
//! advance, so Redis knows nothing of leases, and a crash loses one lease at most. Its lifetime,
//! [`LEASE_LIFETIME`], begins before the request for it is sent. Every unit that is spent was
//! therefore charged at most that long ago, hence the published bound on admitted requests in any
//! time `t`: `burst + rate * (t + LEASE_LIFETIME)`. Units that are unspent at the end of the
//! lifetime, when demand ends, or when the node stops, are refunded like any charge. Units of a
//! limit that has been replaced by a new revision are not.

#[cfg(all(test, feature = "shuttle"))]
mod model;
#[cfg(all(test, not(feature = "shuttle")))]
mod simulation;

use std::sync::{Arc, PoisonError};
#[cfg(not(feature = "shuttle"))]
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use foldhash::HashMap;
#[cfg(feature = "shuttle")]
use shuttle::sync::{Mutex, MutexGuard};
use smallvec::SmallVec;

use crate::algorithm::{Algorithm, ChargeTime, CounterState, Counting as _, WindowStart};
use crate::limit::{Charge, CounterId, Limit, Refund, Subject};
use crate::time::Micros;

/// The lifetime of a lease: the time within which its units may be spent.
pub(super) const LEASE_LIFETIME: Duration = Duration::from_millis(200);
/// The window in which demand is counted. A lease is sized for the demand of one window.
const DEMAND_WINDOW: Duration = Duration::from_millis(100);
/// The time for which a counter remembers its demand. Longer than the pause after a refusal, so that
/// the first lease behind it is as large as the last one before.
const DEMAND_MEMORY: Duration = Duration::from_millis(500);
/// The pause after a refusal, for each client that may hold leases. A pause and what follows it,
/// until the bucket is empty again, take a client some four script calls.
const PAUSE_PER_HOLDER: Duration = Duration::from_millis(50);
/// The longest pause after a refusal.
const MAX_PAUSE: Duration = Duration::from_millis(250);
/// The smallest useful lease, in units. A smaller one saves no calls; a limit whose fair share for
/// one client is smaller is not leased at all.
const MIN_LEASE_UNITS: u64 = 16;
/// The most counters with leases in one client. Checks of further counters are judged by Redis,
/// until idle counters have been evicted.
const MAX_COUNTERS: usize = 10_000;

/// The leases of one client.
#[derive(Default)]
pub(super) struct Leases(Mutex<LeaseTable>);

#[derive(Default)]
struct LeaseTable {
    by_counter: HashMap<CounterId, LeasedCounter>,
    last_evicted_at: Duration,
}

/// The leases of one counter, its demand and its last known level.
struct LeasedCounter {
    subject: Subject,
    limit: Arc<Limit>,
    leases: SmallVec<[Lease; 2]>,
    /// The level after the last charge that Redis judged, and the time of it by Redis' clock.
    level: u64,
    level_at: Micros,
    current_demand: u64,
    previous_demand: u64,
    window_start: Duration,
    last_used_at: Duration,
    is_renewing: bool,
}

/// Units that were charged together in Redis.
struct Lease {
    remaining: u64,
    origin: LeaseOrigin,
}

impl Lease {
    fn covers(&self, cost: u64, clock: Duration) -> bool {
        self.remaining >= cost && self.origin.expires_at > clock
    }
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
}

/// A charge to make in advance, and the time when its lifetime begins.
pub(super) struct Renewal {
    pub(super) charge: Charge,
    pub(super) requested_at: Duration,
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
    ) -> (Coverage, Option<Renewal>) {
        if !is_worth_leasing(charge.limit.algorithm(), holders) {
            return (Coverage::NotLeased, None);
        }
        let mut table = self.lock();
        if !table.has_room_for(charge.counter(), clock) {
            return (Coverage::NotLeased, None);
        }
        let counter = table
            .by_counter
            .entry(charge.counter())
            .or_insert_with(|| LeasedCounter::new(charge, clock));
        counter.record_demand(charge, clock);
        let coverage = counter.take(charge.cost, now, clock);
        (coverage, counter.next_renewal(charge, now, holders, clock))
    }

    /// The coverage that [`Leases::take`] would give the charge now. Takes nothing, and records no
    /// demand.
    pub(super) fn peek(
        &self,
        charge: &Charge,
        now: Micros,
        clock: Duration,
        holders: u64,
    ) -> Coverage {
        let table = self.lock();
        let counter = table.by_counter.get(&charge.counter());
        let counter = counter.filter(|counter| Arc::ptr_eq(&counter.limit, &charge.limit));
        match counter {
            Some(counter) if is_worth_leasing(charge.limit.algorithm(), holders) => {
                counter.peek(charge.cost, now, clock)
            }
            _ => Coverage::NotLeased,
        }
    }

    /// The pause after the store has refused `charge`. There is none while a lease covers the charge:
    /// its units would drain unspent.
    pub(super) fn pause_after_refusal(
        &self,
        charge: &Charge,
        clock: Duration,
        holders: u64,
    ) -> Duration {
        let table = self.lock();
        let counter = table.by_counter.get(&charge.counter());
        let leases = counter.map_or(&[][..], |counter| &counter.leases);
        if leases.iter().any(|lease| lease.covers(charge.cost, clock)) {
            return Duration::ZERO;
        }
        pause(&charge.limit, holders)
    }

    /// Puts back the units that were taken for a check which was then refused.
    pub(super) fn put_back(&self, charge: &Charge, origin: LeaseOrigin) {
        if let Some(counter) = self.lock().by_counter.get_mut(&charge.counter())
            && Arc::ptr_eq(&counter.limit, &charge.limit)
        {
            match counter.leases.iter_mut().find(|lease| lease.origin == origin) {
                Some(lease) => lease.remaining += charge.cost,
                None => counter.leases.insert(0, Lease { remaining: charge.cost, origin }),
            }
        }
    }

    /// Takes out the units to refund: those of leases that have expired, and of counters without
    /// demand for [`DEMAND_WINDOW`]. With `all`, takes out every unit.
    pub(super) fn take_unspent(&self, clock: Duration, all: bool) -> Vec<Refund> {
        let mut table = self.lock();
        table
            .by_counter
            .values_mut()
            .filter_map(|counter| counter.take_unspent(clock, all))
            .collect()
    }

    /// True if there is no lease, so that nothing could be unspent.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().by_counter.values().all(|counter| counter.leases.is_empty())
    }

    /// Records the level of a counter after Redis judged a charge to it.
    pub(super) fn observe_level(&self, charge: &Charge, level: u64, at: Micros) {
        if let Some(counter) = self.lock().by_counter.get_mut(&charge.counter()) {
            (counter.level, counter.level_at) = (level, at);
        }
    }

    /// Ends a renewal. If Redis granted it, `charged_at` is the time of the charge, and the lease
    /// can be spent from now on.
    pub(super) fn complete_renewal(&self, renewal: &Renewal, charged_at: Option<Micros>) {
        let mut table = self.lock();
        let Some(counter) = table.by_counter.get_mut(&renewal.charge.counter()) else { return };
        counter.is_renewing = false;
        if let Some(charged_at) = charged_at
            && Arc::ptr_eq(&counter.limit, &renewal.charge.limit)
        {
            let origin =
                LeaseOrigin { charged_at, expires_at: renewal.requested_at + LEASE_LIFETIME };
            counter.leases.push(Lease { remaining: renewal.charge.cost, origin });
        }
    }

    fn lock(&self) -> MutexGuard<'_, LeaseTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time for which a client makes no call about a leased limit that has just refused, so that an
/// empty bucket gathers units, whatever the demand. A quarter of the bucket drains at most: units
/// would be lost in a bucket that stays empty, should the client be late.
fn pause(limit: &Limit, holders: u64) -> Duration {
    let holders = u32::try_from(holders).unwrap_or(u32::MAX);
    let quarter = limit.algorithm().time_to_drain(limit.size() / 4);
    let quarter = Duration::from_micros(quarter.get());
    PAUSE_PER_HOLDER.saturating_mul(holders).min(MAX_PAUSE).min(quarter)
}

/// The units that drain in `time`.
fn drained_units(algorithm: &Algorithm, time: Duration) -> u64 {
    let time = Micros::new(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    algorithm.drained(time) / algorithm.amount(1)
}

/// True if each holder's share of the units that the limit allows within a lease's lifetime is at
/// least the smallest useful lease.
fn is_worth_leasing(algorithm: &Algorithm, holders: u64) -> bool {
    let units_in_lifetime = drained_units(algorithm, LEASE_LIFETIME);
    algorithm.capacity().min(units_in_lifetime) >= MIN_LEASE_UNITS * holders.max(1)
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
            counter.is_renewing || clock < counter.window_start + 2 * LEASE_LIFETIME
        });
        self.by_counter.len() < MAX_COUNTERS
    }
}

impl LeasedCounter {
    fn new(charge: &Charge, clock: Duration) -> Self {
        Self {
            subject: charge.subject,
            limit: Arc::clone(&charge.limit),
            leases: SmallVec::new(),
            level: 0,
            level_at: Micros::ZERO,
            current_demand: 0,
            previous_demand: 0,
            window_start: clock,
            last_used_at: clock,
            is_renewing: false,
        }
    }

    /// Records the demand. A new revision of the limit ends all leases.
    fn record_demand(&mut self, charge: &Charge, clock: Duration) {
        if !Arc::ptr_eq(&self.limit, &charge.limit) {
            self.limit = Arc::clone(&charge.limit);
            self.leases.clear();
        }
        self.leases.retain(|lease| lease.remaining > 0);
        self.last_used_at = clock;
        let passed = clock.saturating_sub(self.window_start);
        if passed >= DEMAND_WINDOW {
            self.previous_demand = if passed < DEMAND_MEMORY { self.current_demand } else { 0 };
            (self.current_demand, self.window_start) = (0, clock);
        }
        self.current_demand += charge.cost;
    }

    /// Takes out units as [`Leases::take_unspent`] says. All leases are refunded together, as of
    /// the first charge: the bucket has drained once since then, and not once for each lease.
    fn take_unspent(&mut self, clock: Duration, all: bool) -> Option<Refund> {
        let everything = all || clock >= self.last_used_at + DEMAND_WINDOW;
        let (mut cost, mut charged_at) = (0, Micros::MAX);
        self.leases.retain(|&mut Lease { remaining, origin }| {
            let kept = !everything && origin.expires_at > clock;
            if !kept && remaining > 0 {
                cost += remaining;
                charged_at = charged_at.min(origin.charged_at);
            }
            kept
        });
        let charge = Charge::new(self.subject, Arc::clone(&self.limit), cost);
        (cost > 0).then_some(Refund {
            charge,
            charged: ChargeTime { at: charged_at, window: WindowStart::new(0) },
        })
    }

    /// The units that may still be spent.
    fn remaining(&self, clock: Duration) -> u64 {
        let alive = self.leases.iter().filter(|lease| lease.origin.expires_at > clock);
        alive.map(|lease| lease.remaining).sum()
    }

    /// The current level, estimated from the last known one.
    fn level_now(&self, now: Micros) -> u64 {
        self.level.saturating_sub(self.limit.algorithm().drained(now.since(self.level_at)))
    }

    fn take(&mut self, cost: u64, now: Micros, clock: Duration) -> Coverage {
        let remaining = self.remaining(clock);
        let Some(lease) = self.leases.iter_mut().find(|lease| lease.covers(cost, clock)) else {
            return Coverage::NotLeased;
        };
        lease.remaining -= cost;
        let origin = lease.origin;
        Coverage::Leased(self.state_with(remaining, now), origin)
    }

    fn peek(&self, cost: u64, now: Micros, clock: Duration) -> Coverage {
        let covering = self.leases.iter().find(|lease| lease.covers(cost, clock));
        covering.map_or(Coverage::NotLeased, |lease| {
            Coverage::Leased(self.state_with(self.remaining(clock), now), lease.origin)
        })
    }

    /// The state that responses report: `remaining` leased units, which are unspent, remain.
    fn state_with(&self, remaining: u64, now: Micros) -> CounterState {
        let level = self.level_now(now).saturating_sub(self.limit.amount(remaining));
        CounterState::of_level(level.cast_signed())
    }

    /// The lease to request now, if one is needed: as large as the demand of one window, but no
    /// larger than this holder's fair share of the remaining units, or than most of what drains
    /// during a pause if that is more. What has gathered in a pause would otherwise be shared out in
    /// many small leases, each for a call; and all of it would be refused, since further checks
    /// are on their way.
    fn next_renewal(
        &mut self,
        charge: &Charge,
        now: Micros,
        holders: u64,
        clock: Duration,
    ) -> Option<Renewal> {
        let (demand, remaining) =
            (self.current_demand.max(self.previous_demand), self.remaining(clock));
        if self.is_renewing || self.level_at == Micros::ZERO || remaining * 2 > demand {
            return None;
        }
        let algorithm = self.limit.algorithm();
        let left = algorithm.remaining(self.level_now(now));
        let gathered = drained_units(algorithm, pause(&self.limit, holders));
        let share = (left / (2 * holders.max(1))).max(gathered.min(left / 4 * 3));
        let size = demand.min(share).min(self.limit.capacity());
        if size < MIN_LEASE_UNITS.max(2 * charge.cost) && (remaining > 0 || size < 2 * charge.cost)
        {
            return None;
        }
        self.is_renewing = true;
        // Made only if it fits, also where the demand is that of reports.
        let charge = Charge::new(self.subject, Arc::clone(&self.limit), size);
        Some(Renewal { charge, requested_at: clock })
    }
}

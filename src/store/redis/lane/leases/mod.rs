//! Leases: units that this lane has already charged in Redis and spends from memory.
//!
//! For throttles that the catalog declares `leased`. A lease is an ordinary charge made ahead, so
//! Redis knows nothing of leases, and a crash loses one at most. It lives [`LIFE`] from before it was
//! asked for; what is spent was charged at most that long before, hence the published bound:
//! `burst + rate * (t + LIFE)`. What is unspent at its end, or when demand ends, or when the node
//! stops, goes back as an ordinary refund; what was charged for another revision's limit does not.

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

use crate::algorithm::{Reading, token_bucket};
use crate::limit::{Charge, Limit, Refund, Rule, Start, Subject, Throttle};
use crate::time::Micros;

/// How long a lease may be spent.
pub(super) const LIFE: Duration = Duration::from_millis(200);
/// Over what time demand is counted, and for what time it is leased ahead.
const AHEAD: Duration = Duration::from_millis(100);
/// Below so many units a lease is not worth its call, and a limit's fair part not worth leases.
const WORTH: u64 = 16;
/// Counters that are remembered; beyond them, and until idle ones are forgotten, all is exact.
const MOST: usize = 10_000;

/// The leases of one lane.
#[derive(Default)]
pub(super) struct Leases(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_counter: HashMap<([u8; 16], u64), Leased>,
    tidied: Duration,
}

/// What is known of one counter.
struct Leased {
    subject: Subject,
    limit: Arc<Limit>,
    grants: SmallVec<[Grant; 2]>,
    /// The level after the last charge that Redis told of, and when that was, by Redis' clock.
    level: u64,
    at: Micros,
    asked: u64,
    asked_before: u64,
    since: Duration,
    last: Duration,
    renewing: bool,
}

/// Units charged together.
struct Grant {
    left: u64,
    origin: Origin,
}

/// Where leased units come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// When they were charged, by Redis' clock.
    charged: Micros,
    /// Until when they may be spent, by the boot clock.
    ends: Duration,
}

/// What a charge finds.
pub(super) enum Cover {
    /// Taken from a lease; so the limit stood before.
    Taken(Reading, Origin),
    /// Redis has to judge it.
    Ask,
}

/// A charge to make ahead, and when it was decided on.
pub(super) struct Renewal {
    pub(super) charge: Charge,
    pub(super) asked_at: Duration,
}

impl Leases {
    /// Whether a charge may be covered by a lease at all. A limit that is made for each check cannot:
    /// each would end what was leased for the one before.
    pub(super) fn concern(charge: &Charge) -> bool {
        let limit = &charge.limit;
        limit.leased() && charge.cost > 0 && !limit.shadow() && limit.is_declared()
    }

    /// Takes `charge` from a lease if there is one, and notes the demand. `now` is Redis' clock as
    /// far as known, `clock` the boot clock. The second value is a lease to ask for, so that the
    /// next one is there in time.
    pub(super) fn take(
        &self,
        charge: &Charge,
        now: Micros,
        clock: Duration,
        holders: u64,
    ) -> (Cover, Option<Renewal>) {
        let Rule::Throttle(throttle) = charge.limit.rule() else { return (Cover::Ask, None) };
        if !is_worth(throttle, holders) {
            return (Cover::Ask, None);
        }
        let mut known = self.lock();
        if !known.has_room_for(counter(charge), clock) {
            return (Cover::Ask, None);
        }
        let leased =
            known.by_counter.entry(counter(charge)).or_insert_with(|| Leased::new(charge, clock));
        leased.note(charge, clock);
        let cover = leased.take(charge.cost, throttle, now, clock);
        (cover, leased.renewal(charge, throttle, now, holders, clock))
    }

    /// Puts back what was taken for a check that then was not allowed.
    pub(super) fn put_back(&self, charge: &Charge, origin: Origin) {
        if let Some(leased) = self.lock().by_counter.get_mut(&counter(charge))
            && Arc::ptr_eq(&leased.limit, &charge.limit)
        {
            match leased.grants.iter_mut().find(|grant| grant.origin == origin) {
                Some(grant) => grant.left += charge.cost,
                None => leased.grants.insert(0, Grant { left: charge.cost, origin }),
            }
        }
    }

    /// Takes out what nobody will spend: of leases that have ended, and of counters that nobody
    /// has asked for within [`AHEAD`]; with `all`, everything.
    pub(super) fn unspent(&self, clock: Duration, all: bool) -> Vec<Refund> {
        let mut known = self.lock();
        known.by_counter.values_mut().filter_map(|leased| leased.unspent(clock, all)).collect()
    }

    /// Learns how a limit stood after Redis judged a charge against it.
    pub(super) fn learn(&self, charge: &Charge, level: u64, at: Micros) {
        if let Some(leased) = self.lock().by_counter.get_mut(&counter(charge)) {
            (leased.level, leased.at) = (level, at);
        }
    }

    /// What became of a renewal: when Redis charged it, if it did.
    pub(super) fn settle(&self, renewal: &Renewal, charged: Option<Micros>) {
        let mut known = self.lock();
        let Some(leased) = known.by_counter.get_mut(&counter(&renewal.charge)) else { return };
        leased.renewing = false;
        if let Some(charged) = charged
            && Arc::ptr_eq(&leased.limit, &renewal.charge.limit)
        {
            let origin = Origin { charged, ends: renewal.asked_at + LIFE };
            leased.grants.push(Grant { left: renewal.charge.cost, origin });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn counter(charge: &Charge) -> ([u8; 16], u64) {
    (charge.subject.digest(), charge.limit.row().get())
}

/// Whether each holder's part of what the limit allows within a lease's life is worth a lease.
fn is_worth(throttle: &Throttle, holders: u64) -> bool {
    let life = u64::try_from(LIFE.as_micros()).unwrap_or(u64::MAX);
    let in_life = u128::from(throttle.drain()) * u128::from(life) / u128::from(throttle.per());
    u128::from(throttle.burst()).min(in_life) >= u128::from(WORTH * holders.max(1))
}

impl Known {
    fn has_room_for(&mut self, counter: ([u8; 16], u64), clock: Duration) -> bool {
        if self.by_counter.len() < MOST || self.by_counter.contains_key(&counter) {
            return true;
        }
        if clock < self.tidied + LIFE {
            return false;
        }
        self.tidied = clock;
        self.by_counter.retain(|_, leased| leased.renewing || clock < leased.since + 2 * LIFE);
        self.by_counter.len() < MOST
    }
}

impl Leased {
    fn new(charge: &Charge, clock: Duration) -> Self {
        Self {
            subject: charge.subject,
            limit: Arc::clone(&charge.limit),
            grants: SmallVec::new(),
            level: 0,
            at: Micros::ZERO,
            asked: 0,
            asked_before: 0,
            since: clock,
            last: clock,
            renewing: false,
        }
    }

    /// Counts the demand; a limit of another revision ends all leases.
    fn note(&mut self, charge: &Charge, clock: Duration) {
        if !Arc::ptr_eq(&self.limit, &charge.limit) {
            self.limit = Arc::clone(&charge.limit);
            self.grants.clear();
        }
        self.grants.retain(|grant| grant.left > 0);
        self.last = clock;
        let passed = clock.saturating_sub(self.since);
        if passed >= AHEAD {
            self.asked_before = if passed < 2 * AHEAD { self.asked } else { 0 };
            (self.asked, self.since) = (0, clock);
        }
        self.asked += charge.cost;
    }

    /// See [`Leases::unspent`]. Leases go back as one, from when the first was charged: since then
    /// time has drained once, not once for each.
    fn unspent(&mut self, clock: Duration, all: bool) -> Option<Refund> {
        let everything = all || clock >= self.last + AHEAD;
        let (mut cost, mut charged) = (0, Micros::MAX);
        self.grants.retain(|&mut Grant { left, origin }| {
            let kept = !everything && origin.ends > clock;
            if !kept && left > 0 {
                cost += left;
                charged = charged.min(origin.charged);
            }
            kept
        });
        let charge = Charge { subject: self.subject, limit: Arc::clone(&self.limit), cost };
        (cost > 0).then_some(Refund { charge, charged, window: Start::new(0) })
    }

    /// What may still be spent.
    fn left(&self, clock: Duration) -> u64 {
        let alive = self.grants.iter().filter(|grant| grant.origin.ends > clock);
        alive.map(|grant| grant.left).sum()
    }

    /// The level by now, as far as known.
    fn level_now(&self, throttle: &Throttle, now: Micros) -> u64 {
        self.level.saturating_sub(now.since(self.at).get().saturating_mul(throttle.drain()))
    }

    fn take(&mut self, cost: u64, throttle: &Throttle, now: Micros, clock: Duration) -> Cover {
        let left = self.left(clock);
        let covers = |grant: &&mut Grant| grant.left >= cost && grant.origin.ends > clock;
        let Some(grant) = self.grants.iter_mut().find(covers) else {
            return Cover::Ask;
        };
        grant.left -= cost;
        let origin = grant.origin;
        // To the client the unspent lease is as good as unspent budget.
        let held =
            self.level_now(throttle, now).saturating_sub(left.saturating_mul(throttle.per()));
        Cover::Taken(Reading { held: held.cast_signed(), window: Start::new(0) }, origin)
    }

    /// The lease to ask for now: the demand of the next moment, but no more than a fair part of
    /// what is left for all.
    fn renewal(
        &mut self,
        charge: &Charge,
        throttle: &Throttle,
        now: Micros,
        holders: u64,
        clock: Duration,
    ) -> Option<Renewal> {
        let (demand, left) = (self.asked.max(self.asked_before), self.left(clock));
        if self.renewing || self.at == Micros::ZERO || left * 2 > demand {
            return None;
        }
        let fair =
            token_bucket::remaining(self.level_now(throttle, now), throttle) / (2 * holders.max(1));
        let size = demand.min(fair).min(throttle.burst());
        if size < WORTH.max(2 * charge.cost) && (left > 0 || size < 2 * charge.cost) {
            return None;
        }
        self.renewing = true;
        Some(Renewal { charge: Charge { cost: size, ..charge.clone() }, asked_at: clock })
    }
}

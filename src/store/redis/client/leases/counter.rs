//! One counter's leases: its demand, its last known level, and the lease on its way. When a node
//! asks for more, and for how much, is decided here; `sizing` has the numbers.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::renewal::{PendingRenewal, Renewal};
use super::sizing::{MAX_PAUSE, MIN_LEASE_UNITS, gathered_units, pause};
use super::{Coverage, LeaseOrigin};
use crate::algorithm::{ChargeTime, CounterState, Counting as _, WindowStart};
use crate::limit::{Charge, Limit, Refund, Subject};
use crate::time::Micros;

/// The window in which demand is counted. A lease is sized for the demand of one window.
const DEMAND_WINDOW: Duration = Duration::from_millis(100);
/// The time for which a counter remembers its demand. Longer than the pause after a refusal, so that
/// the first lease behind it is as large as the last one before.
const DEMAND_MEMORY: Duration = Duration::from_millis(500);

/// The leases of one counter, its demand and its last known level.
pub(super) struct LeasedCounter {
    subject: Subject,
    pub(super) limit: Arc<Limit>,
    leases: SmallVec<[Lease; 2]>,
    /// The level after the last charge that Redis judged, and the time of it by Redis' clock.
    level: u64,
    level_at: Micros,
    current_demand: u64,
    previous_demand: u64,
    pub(super) window_start: Duration,
    last_used_at: Duration,
    renewal: Option<PendingRenewal>,
    /// True from a refusal on, until twice the units of a pause have gathered.
    is_scarce: bool,
    pause: Option<Pause>,
}

/// The time until which charges of at least this cost are refused without a call. Redis is asked
/// when it ends, whatever this node expects.
#[derive(Clone, Copy)]
struct Pause {
    until: Duration,
    cost: u64,
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

impl LeasedCounter {
    pub(super) fn new(charge: &Charge, clock: Duration) -> Self {
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
            renewal: None,
            is_scarce: false,
            pause: None,
        }
    }

    /// Records the demand. A new revision of the limit ends all leases.
    pub(super) fn record_demand(&mut self, charge: &Charge, clock: Duration) {
        if !Arc::ptr_eq(&self.limit, &charge.limit) {
            self.limit = Arc::clone(&charge.limit);
            self.leases.clear();
            self.is_scarce = false;
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

    /// Takes units from a lease that covers them all. Returns the leased units before, and the
    /// origin of that lease.
    pub(super) fn take_units(&mut self, cost: u64, clock: Duration) -> Option<(u64, LeaseOrigin)> {
        let remaining = self.remaining(clock);
        let lease = self.leases.iter_mut().find(|lease| lease.covers(cost, clock))?;
        lease.remaining -= cost;
        Some((remaining, lease.origin))
    }

    /// The same, and takes nothing.
    pub(super) fn peek_units(&self, cost: u64, clock: Duration) -> Option<(u64, LeaseOrigin)> {
        let lease = self.leases.iter().find(|lease| lease.covers(cost, clock))?;
        Some((self.remaining(clock), lease.origin))
    }

    pub(super) fn take(&mut self, cost: u64, now: Micros, clock: Duration) -> Coverage {
        self.take_units(cost, clock).map_or(Coverage::NotLeased, |(remaining, origin)| {
            Coverage::Leased(self.state_with(remaining, now), origin)
        })
    }

    /// The coverage that [`LeasedCounter::take`] would give, or `None`.
    pub(super) fn peek(&self, cost: u64, now: Micros, clock: Duration) -> Option<Coverage> {
        let (remaining, origin) = self.peek_units(cost, clock)?;
        Some(Coverage::Leased(self.state_with(remaining, now), origin))
    }

    /// True if a lease covers the cost.
    pub(super) fn covers(&self, cost: u64, clock: Duration) -> bool {
        self.leases.iter().any(|lease| lease.covers(cost, clock))
    }

    pub(super) fn put_back(&mut self, cost: u64, origin: LeaseOrigin) {
        match self.leases.iter_mut().find(|lease| lease.origin == origin) {
            Some(lease) => lease.remaining += cost,
            None => self.leases.insert(0, Lease { remaining: cost, origin }),
        }
    }

    pub(super) fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Takes out the units of expired leases, and with `all`, or without demand for
    /// [`DEMAND_WINDOW`], those of every lease. All leases are refunded together, as of the first
    /// charge: the bucket has drained once since then, and not once for each lease.
    pub(super) fn take_unspent(&mut self, clock: Duration, all: bool) -> Option<Refund> {
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

    pub(super) fn observe_level(&mut self, level: u64, at: Micros) {
        (self.level, self.level_at) = (level, at);
    }

    /// Records that Redis has refused a charge that no lease covers.
    pub(super) fn observe_refusal(&mut self) {
        (self.is_scarce, self.pause) = (true, None);
    }

    /// Ends a renewal; `lease` is what Redis has granted.
    pub(super) fn complete_renewal(&mut self, lease: Option<(u64, LeaseOrigin)>) {
        self.renewal = None;
        if let Some((remaining, origin)) = lease {
            self.leases.push(Lease { remaining, origin });
        }
    }

    /// The renewal on its way.
    pub(super) fn renewal(&self) -> Option<&PendingRenewal> {
        self.renewal.as_ref().filter(|renewal| !renewal.has_ended())
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

    /// The units that are left in Redis, estimated from the last known level.
    fn left(&self, now: Micros) -> u64 {
        self.limit.algorithm().remaining(self.level_now(now))
    }

    /// The state that responses report: `remaining` leased units, which are unspent, remain.
    fn state_with(&self, remaining: u64, now: Micros) -> CounterState {
        let level = self.level_now(now).saturating_sub(self.limit.amount(remaining));
        CounterState::of_level(level.cast_signed())
    }

    /// The counter's state as far as this node knows.
    pub(super) fn state(&self, now: Micros, clock: Duration) -> CounterState {
        self.state_with(self.remaining(clock), now)
    }

    /// The lease to request now, if one is needed: as large as the demand of one window, but no
    /// larger than this node's fair share of the remaining units, or than most of what drains
    /// during a pause if that is more. What has gathered in a pause would otherwise be shared out in
    /// many small leases, each for a call; and all of it would be refused, since further checks
    /// are on their way. While units are scarce, the next lease waits for as many.
    pub(super) fn next_renewal(
        &mut self,
        charge: &Charge,
        now: Micros,
        clock: Duration,
        holders: u64,
    ) -> Option<Renewal> {
        let (demand, remaining) = (self.demand(), self.remaining(clock));
        if self.level_at == Micros::ZERO || remaining * 2 > demand || self.renewal().is_some() {
            return None;
        }
        let (left, gathered) = (self.left(now), gathered_units(&self.limit, holders));
        if self.stays_scarce(left, gathered) && left < gathered {
            return None;
        }
        let share = (left / (2 * holders.max(1))).max(gathered.min(left / 4 * 3));
        let size = demand.min(share).min(self.limit.capacity());
        if size < MIN_LEASE_UNITS.max(2 * charge.cost) && (remaining > 0 || size < 2 * charge.cost)
        {
            return None;
        }
        Some(self.begin_renewal(size, clock))
    }

    /// The turn of a charge that no lease covers, while units are scarce: one call about the counter
    /// is on its way at a time, and all checks of the node wait for it. The next one leaves once the
    /// units of a pause have gathered. Until then charges are refused without a call.
    pub(super) fn take_turn(
        &mut self,
        charge: &Charge,
        now: Micros,
        clock: Duration,
        holders: u64,
    ) -> (Coverage, Option<Renewal>) {
        let (left, gathered) = (self.left(now), gathered_units(&self.limit, holders));
        if !self.stays_scarce(left, gathered) {
            return (Coverage::NotLeased, self.next_renewal(charge, now, clock, holders));
        }
        if let Some(renewal) = self.renewal() {
            return (Coverage::Awaited(renewal.clone()), None);
        }
        if let Some(state) = self.refusal(charge, now, clock, holders) {
            self.begin_pause(charge.cost, now, clock, holders);
            return (Coverage::Refused(state), None);
        }
        // Whole checks like this one, so that no part of a check is left unspent.
        let checks =
            self.demand().min(left / 4 * 3).min(self.limit.capacity()) / charge.cost.max(1);
        let renewal = self.begin_renewal(checks.max(1) * charge.cost, clock);
        (Coverage::Awaited(renewal.pending()), Some(renewal))
    }

    /// The state that refuses a charge which no lease covers, if it is refused without a call.
    pub(super) fn refusal(
        &self,
        charge: &Charge,
        now: Micros,
        clock: Duration,
        holders: u64,
    ) -> Option<CounterState> {
        let gathered = gathered_units(&self.limit, holders);
        let left = self.left(now);
        let is_scarce = self.is_scarce && left < 2 * gathered;
        let is_due = match self.pause {
            Some(pause) if pause.cost <= charge.cost => clock >= pause.until,
            _ => left >= gathered.max(charge.cost),
        };
        if !is_scarce || is_due || self.renewal().is_some() {
            return None;
        }
        // The charge may fit into the bucket, which gathers units for a lease. The response says
        // that it does not.
        let full = self.limit.size().saturating_sub(charge.amount()) + 1;
        Some(CounterState::of_level(self.level_now(now).max(full).cast_signed()))
    }

    /// The time for which a charge of this cost is refused without a call, after it was refused.
    pub(super) fn pause_left(
        &self,
        charge: &Charge,
        now: Micros,
        clock: Duration,
        holders: u64,
    ) -> Duration {
        match self.pause {
            _ if self.covers(charge.cost, clock) => Duration::ZERO,
            // Redis has refused a check that records no refusal here, such as one of a batch.
            _ if !self.is_scarce => pause(&self.limit, holders),
            Some(pause) if pause.cost <= charge.cost => pause.until.saturating_sub(clock),
            _ => self.time_to_gather(charge.cost, now, holders),
        }
    }

    fn demand(&self) -> u64 {
        self.current_demand.max(self.previous_demand)
    }

    /// True if units are scarce still. They no longer are once enough are `left`.
    fn stays_scarce(&mut self, left: u64, gathered: u64) -> bool {
        self.is_scarce &= left < 2 * gathered;
        self.is_scarce
    }

    /// Begins a pause for charges of at least this cost, unless one lasts.
    fn begin_pause(&mut self, cost: u64, now: Micros, clock: Duration, holders: u64) {
        if self.pause.is_none_or(|pause| cost < pause.cost) {
            let until = clock + self.time_to_gather(cost, now, holders);
            self.pause = Some(Pause { until, cost });
        }
    }

    /// The time until enough units for the next call have gathered.
    fn time_to_gather(&self, cost: u64, now: Micros, holders: u64) -> Duration {
        let needed = self.limit.amount(gathered_units(&self.limit, holders).max(cost));
        let excess = (self.level_now(now) + needed).saturating_sub(self.limit.size());
        Duration::from_micros(self.limit.algorithm().time_to_drain(excess).get()).min(MAX_PAUSE)
    }

    fn begin_renewal(&mut self, size: u64, clock: Duration) -> Renewal {
        self.pause = None;
        // Made only if it fits, also where the demand is that of reports.
        let charge = Charge::new(self.subject, Arc::clone(&self.limit), size);
        let renewal = Renewal::new(charge, clock);
        self.renewal = Some(renewal.pending());
        renewal
    }
}

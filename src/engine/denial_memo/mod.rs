//! The denial memo: a cache of refusals, so that a refused client's retries cost no Redis call.
//!
//! A refusal stays valid until its `Retry-After`, because the level of a token bucket falls at a
//! known rate and no faster. Reports and smaller costs that add to it meanwhile, other workers'
//! among them, make the wait longer, and are counted once the entry has expired. A cached refusal
//! applies to the same limit of the same catalog and to costs that are at least as large. A reload
//! of the catalog ends it, because it creates new limits. If refunds can make room it lasts 100 ms,
//! as for all limits once the node has opened or adjusted a reservation, and 10 s at most, since
//! Redis may have lost its data or its clock may have stepped. The memo never admits a request.
//!
//! Once an entry has expired, one check renews it. Further checks of the same counter follow only
//! if they would fit beside those on their way; the others are still refused. So the many waiters
//! of one key do not all reach the store when its entry expires.
//!
//! Limits of methods that no catalog lists are made for each request; if one of them refuses,
//! nothing is cached.

mod cached_refusal;
mod lookup;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::observer::{DecidedCheck, DecisionObserver};
use super::reserve::NodeReservations;
use crate::algorithm::CounterState;
use crate::judge::{self, Verdict};
use crate::limit::{Charge, Charges, CounterId};
use crate::time::Micros;
use cached_refusal::{CachedRefusal, RENEWAL_TIME, Renewal};

/// The most refusals in one worker's cache; each takes about 100 bytes.
const MAX_ENTRIES: usize = 20_000;
/// The longest lifetime of an entry whose limit can be refunded. One of a leased limit lasts as long
/// at most, or for the pause that the store asks for.
const SHORT_TTL: Duration = Duration::from_millis(100);
/// The longest lifetime of any entry.
const MAX_TTL: Duration = Duration::from_secs(10);
/// The longest time for which an entry knows when its charge fits.
const MAX_FITS_AT: Duration = Duration::from_hours(1);
/// The shortest time between two sweeps of a full cache.
const MIN_SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Returns the time for which no call to the store is worth making about a leased limit that has just
/// refused this charge.
type LeasePause = Box<dyn Fn(&Charge) -> Duration + Send + Sync>;

/// The denial memo of one worker: its cache of refusals.
pub(super) struct DenialMemo {
    refusals: Mutex<Refusals>,
    /// True while entries may be renewed by checks on their way.
    has_renewals: AtomicBool,
    /// The pause after a refusal of a leased limit.
    pause: LeasePause,
    reservations: Arc<NodeReservations>,
}

#[derive(Default)]
struct Refusals {
    by_counter: HashMap<CounterId, CachedRefusal>,
    last_sweep: Option<Instant>,
    last_renewal: Option<Instant>,
}

impl DenialMemo {
    /// An empty cache.
    pub(super) fn new(pause: LeasePause, reservations: Arc<NodeReservations>) -> Self {
        Self {
            refusals: Mutex::default(),
            has_renewals: AtomicBool::new(false),
            pause,
            reservations,
        }
    }

    /// The time for which the node refuses a charge to a leased limit that has just been refused.
    pub(super) fn pause_after_refusal(&self, charge: &Charge) -> Micros {
        Micros::new(u64::try_from((self.pause)(charge).as_micros()).unwrap_or(u64::MAX))
    }

    /// Caches the refusals of a verdict.
    fn remember(&self, charges: &Charges, verdict: &Verdict) {
        // A forced charge has raised its level since the verdict's states were read.
        if charges.iter().any(Charge::is_forced) {
            return;
        }
        let has_refused = |(charge, state): &(&Charge, &CounterState)| {
            charge.limit.refuses_alone() && !judge::fits(*charge, **state)
        };
        let violations: SmallVec<[_; 2]> =
            charges.iter().zip(&verdict.states).filter(has_refused).collect();
        // Limits that are made for one check never come again. Without them the other entries would
        // give too short a wait, so nothing is cached.
        if violations.iter().any(|(charge, _)| !charge.limit.is_declared()) {
            return;
        }
        let made_at = Instant::now();
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        // All entries expire with the first: each is correct only in the presence of the others.
        let ttls = violations.iter().map(|(charge, state)| self.ttl(charge, **state, verdict.now));
        let Some(until) = ttls.min().map(|ttl| made_at + ttl) else { return };
        for (charge, &state) in violations {
            if refusals.by_counter.len() >= MAX_ENTRIES && !refusals.evict_expired(made_at) {
                return;
            }
            let (limit, cost, now) = (Arc::clone(&charge.limit), charge.cost, verdict.now);
            let wait = judge::limit_status(charge, state, false, now).retry_after;
            let fits_at = made_at + Duration::from_micros(wait.get()).min(MAX_FITS_AT);
            let renewal = None;
            let entry = CachedRefusal { limit, cost, state, now, made_at, until, fits_at, renewal };
            refusals.by_counter.insert(charge.counter(), entry);
        }
    }

    /// Renews the expired entries of a check by its verdict: further checks follow as far as they
    /// fit beside it.
    fn renew(&self, charges: &Charges, verdict: &Verdict) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let made_at = Instant::now();
        if refusals.last_renewal.is_none_or(|last| made_at >= last + RENEWAL_TIME) {
            self.has_renewals.store(false, Ordering::Relaxed);
            return;
        }
        for (charge, state) in charges.iter().zip(&verdict.states) {
            let Some(entry) = refusals.by_counter.get_mut(&charge.counter()) else { continue };
            if entry.is_of(charge) && entry.renewal.is_some() {
                let amount = if verdict.allowed { charge.amount() } else { 0 };
                let level = state.level.saturating_add_unsigned(amount);
                entry.state = CounterState { level, ..*state };
                (entry.now, entry.made_at) = (verdict.now, made_at);
                (entry.until, entry.fits_at) = (made_at, made_at);
                entry.renewal = Some(Renewal { since: made_at, pending: 0 });
                refusals.last_renewal = Some(made_at);
            }
        }
    }

    /// The lifetime of the entry for a refused charge.
    fn ttl(&self, charge: &Charge, state: CounterState, now: Micros) -> Duration {
        let wait = judge::limit_status(charge, state, false, now).retry_after;
        let wait = Duration::from_micros(wait.get());
        match &charge.limit {
            limit if limit.leased() => {
                let pause = (self.pause)(charge);
                wait.clamp(pause, pause.max(SHORT_TTL))
            }
            limit if limit.refundable() || self.reservations.has_opened() => wait.min(SHORT_TTL),
            _ => wait.min(MAX_TTL),
        }
    }
}

impl DecisionObserver for DenialMemo {
    fn on_decision(&self, check: &DecidedCheck<'_>) {
        let Some(judged) = check.verdict else { return };
        if self.has_renewals.load(Ordering::Relaxed) {
            self.renew(check.charges, &judged.verdict);
        }
        if !judged.verdict.allowed {
            self.remember(check.charges, &judged.verdict);
        }
    }
}

impl Refusals {
    /// Counts the check among those that renew its expired entries.
    fn begin_renewals(&mut self, charges: &Charges, now: Instant) {
        for charge in charges {
            let Some(entry) = self.by_counter.get_mut(&charge.counter()) else { continue };
            if entry.is_of(charge) {
                let pending = entry.pending(now).unwrap_or_default();
                let since = entry.renewal.filter(|_| pending > 0).map_or(now, |it| it.since);
                let pending = pending.saturating_add(charge.amount());
                entry.renewal = Some(Renewal { since, pending });
                self.last_renewal = Some(now);
            }
        }
    }

    /// Removes expired entries. Returns true if there is room.
    fn evict_expired(&mut self, now: Instant) -> bool {
        if self.last_sweep.is_some_and(|last_sweep| now - last_sweep < MIN_SWEEP_INTERVAL) {
            return false;
        }
        self.last_sweep = Some(now);
        self.by_counter.retain(|_, refused| refused.until > now);
        self.by_counter.len() < MAX_ENTRIES
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::algorithm::Throttle;
    use crate::limit::{Limit, Subject, Unit};

    fn charges(limit: &Arc<Limit>, cost: u64) -> Charges {
        [Charge::new(Subject::api_key("a"), Arc::clone(limit), cost)].into_iter().collect()
    }

    fn memo_with(reservations: Arc<NodeReservations>) -> DenialMemo {
        DenialMemo::new(Box::new(|_| Duration::from_millis(50)), reservations)
    }

    fn limit() -> Arc<Limit> {
        let throttle = Throttle::new("1/h".parse().unwrap(), 5).unwrap();
        Arc::new(Limit::new("t", Unit::requests(), throttle, false))
    }

    fn refusal(level: u64) -> Verdict {
        let level = level.cast_signed();
        let states = smallvec![CounterState::of_level(level)];
        Verdict { now: Micros::from_secs(1_000_000), allowed: false, states }
    }

    #[test]
    fn a_refusal_holds_for_the_same_limit_and_costs_as_large() {
        let (memo, limit, hour) = (memo_with(Arc::default()), limit(), 3_600_000_000);
        memo.remember(&charges(&limit, 2), &refusal(4 * hour));
        assert!(memo.lookup(&charges(&limit, 1)).is_none(), "a smaller cost may fit");
        let again = memo.lookup(&charges(&limit, 2)).unwrap();
        assert!(again.retry_after.get() <= hour && again.retry_after.get() > hour - 10_000_000);
        let larger = memo.lookup(&charges(&limit, 3)).unwrap();
        assert!(larger.retry_after > again.retry_after, "its own Retry-After, not the first one's");
        assert_eq!((larger.limits.len(), larger.decided_by.as_str()), (1, "memo"));
    }

    #[test]
    fn several_refusals_are_all_reported_with_the_longest_wait() {
        let memo = memo_with(Arc::default());
        let named = |name: &str, rate: &str| {
            let throttle = Throttle::new(rate.parse().unwrap(), 5).unwrap();
            Limit::new(name, Unit::requests(), throttle, false)
        };
        let (quick, slow) = (Arc::new(named("quick", "1/h")), Arc::new(named("slow", "1/d")));
        let both: Charges =
            [&quick, &slow].map(|limit| charges(limit, 1).remove(0)).into_iter().collect();
        let full = [&quick, &slow].map(|limit| refusal(limit.size()).states.remove(0));
        let verdict = Verdict { states: full.into_iter().collect(), ..refusal(0) };
        memo.remember(&both, &verdict);
        let again = memo.lookup(&both).unwrap();
        assert_eq!((again.limits.len(), again.violated.as_deref()), (2, Some("quick")));
        assert!(again.retry_after.get() > 23 * 3_600_000_000, "{:?}", again.retry_after);
        let given_back = Arc::new(named("slow", "1/d").as_refundable());
        let both: Charges =
            [&quick, &given_back].map(|limit| charges(limit, 1).remove(0)).into_iter().collect();
        memo.remember(&both, &verdict);
        let refusals = memo.refusals.lock().unwrap();
        let ttl = |charge: &Charge| {
            let refused = &refusals.by_counter[&charge.counter()];
            refused.until - refused.made_at
        };
        assert_eq!([ttl(&both[0]), ttl(&both[1])], [SHORT_TTL; 2], "forgotten together");
    }

    #[test]
    fn a_report_neither_meets_the_memo_nor_is_remembered() {
        let (memo, limit) = (memo_with(Arc::default()), limit());
        let mut report = charges(&limit, 5);
        report[0].mode = crate::limit::ChargeMode::Always;
        memo.remember(&report, &refusal(limit.size()));
        assert!(memo.refusals.lock().unwrap().by_counter.is_empty());
        memo.remember(&charges(&limit, 1), &refusal(limit.size()));
        assert!(memo.lookup(&charges(&limit, 5)).is_some() && memo.lookup(&report).is_none());
    }

    #[test]
    fn a_limit_that_is_made_for_one_check_is_not_cached() {
        let (memo, limit) = (memo_with(Arc::default()), limit());
        let made = Arc::new(limit.renamed("another"));
        memo.remember(&charges(&made, 1), &refusal(made.size()));
        assert!(memo.refusals.lock().unwrap().by_counter.is_empty());
    }

    #[test]
    fn a_refusal_expires_after_ten_seconds() {
        let (memo, limit) = (memo_with(Arc::default()), limit());
        memo.remember(&charges(&limit, 1), &refusal(limit.size()));
        let mut refusals = memo.refusals.lock().unwrap();
        let refused = refusals.by_counter.values_mut().next().unwrap();
        assert_eq!(refused.until - refused.made_at, MAX_TTL, "though it would fit in an hour only");
        refused.until = Instant::now();
        drop(refusals);
        assert!(memo.lookup(&charges(&limit, 1)).is_none());
    }

    #[test]
    fn one_check_renews_an_expired_refusal_while_the_others_are_refused() {
        let (memo, limit) = (memo_with(Arc::default()), limit());
        let one = charges(&limit, 1);
        let expire = |memo: &DenialMemo| {
            let mut refusals = memo.refusals.lock().unwrap();
            refusals.by_counter.values_mut().next().unwrap().until = Instant::now();
        };
        memo.remember(&one, &refusal(limit.size()));
        expire(&memo);
        assert!(memo.lookup(&one).is_none(), "the first one asks");
        let held_back = memo.lookup(&one).unwrap();
        assert!(held_back.retry_after.get() > 3_600_000_000, "behind the first one");
        // A reset has made room for four more, of which three are on their way.
        let hour = limit.size() / 5;
        memo.renew(&one, &Verdict { allowed: true, ..refusal(hour) });
        assert_eq!([(); 4].map(|()| memo.lookup(&one).is_none()), [true, true, true, false]);
        memo.renew(&one, &refusal(5 * hour));
        memo.remember(&one, &refusal(5 * hour));
        assert!(memo.lookup(&one).is_some(), "renewed");
        expire(&memo);
        assert!(memo.lookup(&one).is_none(), "and again one asks");
        // A check that never comes back does not hold back others for long.
        for entry in memo.refusals.lock().unwrap().by_counter.values_mut() {
            entry.renewal.as_mut().unwrap().since -= RENEWAL_TIME;
        }
        assert!(memo.lookup(&one).is_none());
    }

    #[test]
    fn no_refusal_holds_for_long_once_the_node_has_opened_a_reservation() {
        let reservations = Arc::new(NodeReservations::default());
        let (memo, limit) = (memo_with(Arc::clone(&reservations)), limit());
        memo.remember(&charges(&limit, 1), &refusal(limit.size()));
        let made_at = |memo: &DenialMemo| {
            let refusals = memo.refusals.lock().unwrap();
            let refused = refusals.by_counter.values().next().unwrap();
            (refused.made_at, refused.until)
        };
        let (cached_at, until) = made_at(&memo);
        assert!(until > cached_at + SHORT_TTL);
        memo.refusals.lock().unwrap().by_counter.values_mut().next().unwrap().made_at -= SHORT_TTL;
        assert!(memo.lookup(&charges(&limit, 1)).is_some());
        reservations.note_opened();
        assert!(memo.lookup(&charges(&limit, 1)).is_none(), "an entry of before");
        memo.remember(&charges(&limit, 1), &refusal(limit.size()));
        let (cached_at, until) = made_at(&memo);
        assert_eq!(until, cached_at + SHORT_TTL);
    }

    #[test]
    fn a_refusal_does_not_apply_to_the_limit_of_another_revision() {
        let (memo, old) = (memo_with(Arc::default()), limit());
        memo.remember(&charges(&old, 1), &refusal(old.size()));
        assert!(memo.lookup(&charges(&old, 1)).is_some());
        assert!(memo.lookup(&charges(&limit(), 1)).is_none());
    }

    #[test]
    fn a_refusal_does_not_apply_once_the_cost_fits() {
        let memo = memo_with(Arc::default());
        let throttle = Throttle::new("1000000/s".parse().unwrap(), 1).unwrap();
        let quick = Arc::new(Limit::new("t", Unit::requests(), throttle, false));
        memo.remember(&charges(&quick, 1), &refusal(quick.size()));
        std::thread::sleep(std::time::Duration::from_micros(2));
        assert!(memo.lookup(&charges(&quick, 1)).is_none());
    }

    #[test]
    fn a_flood_of_refusals_takes_bounded_memory() {
        let (memo, limit) = (memo_with(Arc::default()), limit());
        for number in 0..MAX_ENTRIES + 1_000 {
            let subject = Subject::policy("p", &number.to_string());
            let charges = [Charge::new(subject, Arc::clone(&limit), 5)].into_iter().collect();
            memo.remember(&charges, &refusal(limit.size()));
        }
        assert_eq!(memo.refusals.lock().unwrap().by_counter.len(), MAX_ENTRIES);
    }
}

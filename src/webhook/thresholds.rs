//! Detection of quotas that have reached a threshold, from the verdicts of the store.
//!
//! This is the hot path. A check whose quotas are below the lowest threshold costs a comparison for
//! each quota, and one above it a look into a bounded cache. Events go to a queue. If the queue is
//! full, the threshold is not cached as notified, and the key's next check finds it again.

use std::sync::Arc;

use quick_cache::sync::Cache;
use tokio::sync::mpsc;

use crate::algorithm::WindowStart;
use crate::catalog::ApiKey;
use crate::engine::{AdjustedCheck, DecidedCheck, DecisionObserver};
use crate::judge::{self, Verdict};
use crate::limit::{AdjustmentKind, Charge, Charges, CounterId, Limit};
use crate::time::Micros;

/// The most quotas of keys in the cache. A quota that is evicted is recorded again, which changes
/// nothing.
const MAX_REMEMBERED_QUOTAS: usize = 100_000;
/// The most events that wait to be recorded.
const QUEUE_CAPACITY: usize = 10_000;

/// A quota that has reached thresholds for which this node has recorded no event yet.
#[derive(Debug)]
pub(super) struct ThresholdReached {
    pub(super) key: Arc<ApiKey>,
    pub(super) plan: Arc<str>,
    pub(super) limit: Arc<Limit>,
    pub(super) window: WindowStart,
    pub(super) used: u64,
    /// The store's clock.
    pub(super) at: Micros,
    /// The thresholds, in whole percent.
    pub(super) thresholds: Vec<u8>,
}

/// Finds quotas that reach a threshold; one for all workers of a node.
pub struct Thresholds {
    percents: Vec<u8>,
    notified: Cache<CounterId, Notified>,
    queue: mpsc::Sender<ThresholdReached>,
}

/// The recorded thresholds of a quota: their number, in a window, for a size of the quota.
#[derive(Clone, Copy)]
struct Notified {
    window: WindowStart,
    quota: u64,
    thresholds: usize,
}

impl Thresholds {
    /// An observer for these thresholds (in percent, ascending), and the queue of its events.
    pub(super) fn new(percents: Vec<u8>) -> (Self, mpsc::Receiver<ThresholdReached>) {
        let (queue, found) = mpsc::channel(QUEUE_CAPACITY);
        (Self { percents, notified: Cache::new(MAX_REMEMBERED_QUOTAS), queue }, found)
    }

    /// Compares the usage of a key's enforced quotas with the thresholds, whether the check was
    /// allowed, was refused or only read. Shadow limits have no events.
    fn observe(&self, key: &Arc<ApiKey>, charges: &Charges, verdict: &Verdict) {
        for (charge, state) in charges.iter().zip(&verdict.states) {
            let quota = charge.limit.capacity();
            if charge.limit.calendar().is_none()
                || !charge.limit.refuses_alone()
                || charge.subject != key.subject
            {
                continue;
            }
            let made = judge::is_made(charge, *state, verdict.allowed);
            let added = if made { charge.amount() } else { 0 };
            // The level is negative if an operator granted more than was used.
            let used = state.level.saturating_add_unsigned(added);
            let Ok(used) = u64::try_from(used) else { continue };
            let has_reached = |&percent: &u8| used * 100 >= u64::from(percent) * quota;
            let reached = self.percents.partition_point(has_reached);
            if reached == 0 {
                continue;
            }
            let state = Notified { window: state.window, quota, thresholds: reached };
            self.notify(charge, state, |thresholds| ThresholdReached {
                key: Arc::clone(key),
                // Not the plan that the response names: another plan may apply to the same check.
                plan: charge.limit.label().split('/').next().unwrap_or_default().into(),
                limit: Arc::clone(&charge.limit),
                window: state.window,
                used,
                at: verdict.now,
                thresholds,
            });
        }
    }

    fn notify(
        &self,
        charge: &Charge,
        state: Notified,
        found: impl FnOnce(Vec<u8>) -> ThresholdReached,
    ) {
        let counter = charge.counter();
        let same = |known: &Notified| known.window == state.window && known.quota == state.quota;
        let before = self.notified.get(&counter).filter(same).map_or(0, |known| known.thresholds);
        if before >= state.thresholds {
            return;
        }
        let new = self.percents[before..state.thresholds].to_vec();
        if self.queue.try_send(found(new)).is_ok() {
            self.notified.insert(counter, state);
        }
    }
}

impl DecisionObserver for Thresholds {
    fn on_decision(&self, check: &DecidedCheck<'_>) {
        // An estimate is not what was used.
        if check.reservation.is_some() {
            return;
        }
        if let (Some(key), Some(judged)) = (&check.decision.key, check.verdict) {
            self.observe(key, check.charges, &judged.verdict);
        }
    }

    fn on_adjustment(&self, check: &AdjustedCheck<'_>) {
        let Some(key) = check.key.filter(|_| check.adjustment.kind == AdjustmentKind::Close) else {
            return;
        };
        let after = check.adjustment.charges.iter().zip(&check.adjusted.charges);
        let after = after.filter_map(|(charge, after)| Some((charge.look()?, after.state?)));
        let (looks, states): (Charges, _) = after.unzip();
        let verdict = Verdict { now: check.adjusted.now, allowed: true, states };
        self.observe(key, &looks, &verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::{Calendar, CounterState, Period, Quota};
    use crate::limit::{Subject, Unit};
    use smallvec::smallvec;

    fn quota(limit: u64, shadow: bool) -> Arc<Limit> {
        let calendar = Arc::new(Calendar::new(Period::Day, "UTC").unwrap());
        let algorithm = Quota { limit, calendar };
        Arc::new(Limit::new("p/quota", Unit::requests(), algorithm, shadow))
    }

    struct Watched(Thresholds, mpsc::Receiver<ThresholdReached>);

    impl Watched {
        fn new() -> Self {
            let (thresholds, found) = Thresholds::new(vec![80, 90, 100]);
            Self(thresholds, found)
        }

        /// The thresholds that a check of this cost reaches, at this level before it.
        fn notifies(&mut self, limit: &Arc<Limit>, level: i64, cost: u64, day: u64) -> Vec<u8> {
            self.notifies_of(Subject::api_key("k"), limit, level, cost, day)
        }

        fn notifies_of(
            &mut self,
            subject: Subject,
            limit: &Arc<Limit>,
            level: i64,
            cost: u64,
            day: u64,
        ) -> Vec<u8> {
            let charge = Charge::new(subject, Arc::clone(limit), cost);
            let state = CounterState::in_window(level, WindowStart::new(day * 86_400));
            let allowed = crate::judge::fits(&charge, state);
            let verdict = Verdict { now: Micros::ZERO, allowed, states: smallvec![state] };
            let charges = [charge].into_iter().collect();
            self.0.observe(&Arc::new(ApiKey::new("k")), &charges, &verdict);
            let Ok(reached) = self.1.try_recv() else { return Vec::new() };
            assert_eq!(&*reached.plan, "p", "by the limit's name");
            reached.thresholds
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_threshold_is_notified_once_when_the_usage_reaches_it() {
        let (mut watched, limit) = (Watched::new(), quota(10, false));
        let steps = [
            // why                                        level cost day reached
            ("one below the lowest",                      6,   1,   1,  vec![]),
            ("less than nothing is used after a grant",   -5,  1,   1,  vec![]),
            ("and what is charged then fills that first", -5,  9,   1,  vec![]),
            ("exactly the lowest, by this very charge",   7,   1,   1,  vec![80]),
            ("it was notified before",                    8,   0,   1,  vec![]),
            ("a refusal charges nothing",                 8,   5,   1,  vec![]),
            ("a peek is enough",                          9,   0,   1,  vec![90]),
            ("a refusal, too",                            10,  1,   1,  vec![100]),
            ("less is used after a grant, and once more", 8,   1,   1,  vec![]),
            ("a new day begins anew, all at once",        0,   10,  2,  vec![80, 90, 100]),
        ];
        for (why, level, cost, day, reached) in steps {
            assert_eq!(watched.notifies(&limit, level, cost, day), reached, "{why}");
        }
        assert_eq!(watched.notifies(&quota(8, false), 7, 0, 2), [80], "another size is another quota");
    }

    #[test]
    fn only_enforced_quotas_of_the_key_itself_are_notified() {
        let mut watched = Watched::new();
        assert!(watched.notifies(&quota(10, true), 9, 0, 1).is_empty());
        let policy = Subject::policy("p", "k");
        assert!(watched.notifies_of(policy, &quota(10, false), 9, 0, 1).is_empty());
        let largest = quota(crate::time::MAX_EXACT, false);
        let full = crate::time::MAX_EXACT.cast_signed();
        assert_eq!(watched.notifies(&largest, full, 0, 1), [80, 90, 100]);
    }

    #[test]
    fn a_threshold_that_finds_the_queue_full_is_found_again() {
        let (thresholds, mut found) = Thresholds::new(vec![50]);
        let limit = quota(2, false);
        let observe = |number: usize| {
            let key = Arc::new(ApiKey::new(&number.to_string()));
            let charge = Charge::new(key.subject, Arc::clone(&limit), 0);
            let state = CounterState::of_level(1);
            let verdict = Verdict { now: Micros::ZERO, allowed: true, states: smallvec![state] };
            thresholds.observe(&key, &[charge].into_iter().collect(), &verdict);
        };
        (0..=QUEUE_CAPACITY).for_each(observe);
        for _ in 0..QUEUE_CAPACITY {
            found.try_recv().unwrap();
        }
        (0..=QUEUE_CAPACITY).for_each(observe);
        assert_eq!(&*found.try_recv().unwrap().key.id, QUEUE_CAPACITY.to_string());
        assert!(found.try_recv().is_err(), "the others were notified");
    }
}

//! Which quotas have reached a threshold, as the store's verdicts show them.
//!
//! The hot path: a check whose quotas are below the lowest threshold costs a comparison for each, and
//! one above it a look at what this node has told already. Telling is for others: what is found here
//! goes to a queue, and where that is full, the key's next check finds it again.

use std::sync::Arc;

use quick_cache::sync::Cache;
use tokio::sync::mpsc;

use crate::algorithm::WindowStart;
use crate::catalog::ApiKey;
use crate::engine::{DecidedCheck, DecisionObserver};
use crate::judge::{self, Verdict};
use crate::limit::{Charge, Charges, Limit};
use crate::time::Micros;

/// The most quotas of keys that a node remembers; a forgotten one is noted again, which changes nothing.
const MAX_REMEMBERED_QUOTAS: usize = 100_000;
/// The most findings that wait to be noted.
const QUEUE_CAPACITY: usize = 10_000;

/// A quota that has reached thresholds which this node has not told yet.
#[derive(Debug)]
pub(super) struct ThresholdReached {
    pub(super) key: Arc<ApiKey>,
    pub(super) plan: Arc<str>,
    pub(super) limit: Arc<Limit>,
    pub(super) window: WindowStart,
    pub(super) used: u64,
    /// The store's clock.
    pub(super) at: Micros,
    /// In whole percents.
    pub(super) thresholds: Vec<u8>,
}

/// Finds thresholds that are reached; one for all workers of a node.
pub struct Thresholds {
    percents: Vec<u8>,
    notified: Cache<([u8; 16], u64), Notified>,
    queue: mpsc::Sender<ThresholdReached>,
}

/// What of a quota is told already: so many thresholds of a window, when the quota was so large.
#[derive(Clone, Copy)]
struct Notified {
    window: WindowStart,
    quota: u64,
    thresholds: usize,
}

impl Thresholds {
    /// These percents, rising, and where what reaches them is found.
    pub(super) fn new(percents: Vec<u8>) -> (Self, mpsc::Receiver<ThresholdReached>) {
        let (queue, found) = mpsc::channel(QUEUE_CAPACITY);
        (Self { percents, notified: Cache::new(MAX_REMEMBERED_QUOTAS), queue }, found)
    }

    /// Looks at what a key's check has found of its plan's enforced quotas, whether it passed, was
    /// refused, or only looked. Shadow limits are only tried, and nobody is told of them.
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
            // Less than nothing is held where more was granted than used.
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
                // Not the one that the answer names: others may stand alongside.
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
        let counter = (charge.subject.digest(), charge.limit.row().get());
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
        if let (Some(key), Some(answer)) = (&check.decision.key, check.verdict) {
            self.observe(key, check.charges, &answer.verdict);
        }
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

        /// The thresholds that a check tells which costs so much where so much was used.
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
            let state = CounterState { level, window: WindowStart::new(day * 86_400) };
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
    fn a_threshold_is_told_once_when_what_was_used_has_reached_it() {
        let (mut watched, limit) = (Watched::new(), quota(10, false));
        let steps = [
            // why                                        level cost day told
            ("one below the lowest",                      6,   1,   1,  vec![]),
            ("less than nothing is used after a grant",   -5,  1,   1,  vec![]),
            ("and what is charged then fills that first", -5,  9,   1,  vec![]),
            ("exactly the lowest, by this very charge",   7,   1,   1,  vec![80]),
            ("it is told",                                8,   0,   1,  vec![]),
            ("a refusal charges nothing",                 8,   5,   1,  vec![]),
            ("a look is enough",                          9,   0,   1,  vec![90]),
            ("a refusal, too",                            10,  1,   1,  vec![100]),
            ("less is used after a grant, and once more", 8,   1,   1,  vec![]),
            ("a new day begins anew, all at once",        0,   10,  2,  vec![80, 90, 100]),
        ];
        for (why, level, cost, day, told) in steps {
            assert_eq!(watched.notifies(&limit, level, cost, day), told, "{why}");
        }
        assert_eq!(watched.notifies(&quota(8, false), 7, 0, 2), [80], "another size is another quota");
    }

    #[test]
    fn only_the_keys_own_enforced_quotas_are_told() {
        let mut watched = Watched::new();
        assert!(watched.notifies(&quota(10, true), 9, 0, 1).is_empty());
        let policy = Subject::policy("p", "k");
        assert!(watched.notifies_of(policy, &quota(10, false), 9, 0, 1).is_empty());
        let largest = quota(crate::time::MAX_EXACT, false);
        let full = crate::time::MAX_EXACT.cast_signed();
        assert_eq!(watched.notifies(&largest, full, 0, 1), [80, 90, 100]);
    }

    #[test]
    fn what_finds_no_room_is_found_again() {
        let (thresholds, mut found) = Thresholds::new(vec![50]);
        let limit = quota(2, false);
        let observe = |number: usize| {
            let key = Arc::new(ApiKey::new(&number.to_string()));
            let charge = Charge::new(key.subject, Arc::clone(&limit), 0);
            let state = CounterState { level: 1, window: WindowStart::new(0) };
            let verdict = Verdict { now: Micros::ZERO, allowed: true, states: smallvec![state] };
            thresholds.observe(&key, &[charge].into_iter().collect(), &verdict);
        };
        (0..=QUEUE_CAPACITY).for_each(observe);
        for _ in 0..QUEUE_CAPACITY {
            found.try_recv().unwrap();
        }
        (0..=QUEUE_CAPACITY).for_each(observe);
        assert_eq!(&*found.try_recv().unwrap().key.id, QUEUE_CAPACITY.to_string());
        assert!(found.try_recv().is_err(), "the others were told");
    }
}

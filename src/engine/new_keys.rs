//! Keys that are new to this node: the keys of policies begin at a bounded rate.
//!
//! A node remembers the subjects that it has met. One that it does not remember counts as new,
//! whatever Redis knows: asking it would cost a call, and the refusal has to come before the write.
//! Other nodes count for themselves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::{HashSet, HashSetExt as _};
use smallvec::SmallVec;

use super::decision::{DecidedBy, Decision};
use super::{Engine, PlanContext};
use crate::judge;
use crate::limit::{Charge, Charges, Subject};
use crate::store::{CheckContext, CounterStore, MemoryStore, ReserveReply};
use crate::time::SystemClock;

/// The number of tables, so that workers seldom wait for each other.
const SHARD_COUNT: usize = 16;
/// The most subjects of one generation of a table: a node remembers half a million subjects at
/// least and a million at most, in 20 MB.
const GENERATION_SIZE: usize = 32_768;

/// The subjects that a node remembers, and the buckets of new ones.
pub struct KnownSubjects {
    shards: Vec<Mutex<Generations>>,
    buckets: MemoryStore,
    /// The counters of a node without Redis.
    counters: Option<MemoryStore>,
    /// The time since which no table has forgotten anything, in microseconds.
    turned_at: AtomicU64,
}

/// The subject that a worker has found last in the current generation, as a mark of it and of the
/// time at which the tables turned: for one hot key, workers do not take turns at its lock.
#[derive(Default)]
pub(super) struct LatestSubject(AtomicU64);

/// Digests of subjects in two generations. When the current one is full, the previous one is
/// forgotten, so a subject that is used stays.
struct Generations {
    current: HashSet<u64>,
    previous: HashSet<u64>,
}

impl Default for KnownSubjects {
    fn default() -> Self {
        let empty = || Generations { current: HashSet::new(), previous: HashSet::new() };
        let shards = (0..SHARD_COUNT).map(|_| Mutex::new(empty())).collect();
        let buckets = MemoryStore::new(Arc::new(SystemClock));
        let turned_at = AtomicU64::new(buckets.now().get());
        Self { shards, buckets, counters: None, turned_at }
    }
}

impl KnownSubjects {
    /// The subjects of a node whose counters are in this store.
    #[must_use]
    pub fn beside(counters: &CounterStore) -> Self {
        let counters = match counters {
            CounterStore::Memory(memory) => Some(memory.clone()),
            CounterStore::Redis(_) => None,
        };
        Self { counters, ..Self::default() }
    }

    /// The refusal of a check that has a new subject, if there are too many of them now. A look
    /// begins nothing. A report counts, and is never refused.
    pub(super) fn refuse(&self, charges: &Charges, latest: &LatestSubject) -> Option<Decision> {
        for charge in charges.iter().filter(|charge| charge.cost > 0) {
            let Some(limit) = charge.limit.new_subjects() else { continue };
            let digest = short_digest(charge.subject);
            let mark = digest ^ self.turned_at.load(Ordering::Relaxed);
            if latest.0.load(Ordering::Relaxed) == mark {
                continue;
            }
            if !self.has_changed_lately(charge) && !self.knows(digest) {
                let subject = Subject::policy("new_keys", limit.name());
                let charge_of_new =
                    Charge { mode: charge.mode, ..Charge::new(subject, Arc::clone(limit), 1) };
                let new: Charges = std::iter::once(charge_of_new).collect();
                let judged = self.buckets.judge(&new).ok()?;
                if !judged.verdict.allowed && !charge.is_forced() {
                    return Some(Decision::from_verdict(&new, &judged.verdict, DecidedBy::NewKeys));
                }
                self.remember(digest);
            }
            latest.0.store(mark, Ordering::Relaxed);
        }
        None
    }

    /// The refusal that [`KnownSubjects::refuse`] would return now; nothing begins.
    pub(super) fn would_refuse(&self, charges: &Charges) -> Option<Decision> {
        let mut begun = SmallVec::<[Subject; 4]>::new();
        for charge in charges.iter().filter(|charge| charge.cost > 0) {
            let Some(limit) = charge.limit.new_subjects() else { continue };
            if self.has_changed_lately(charge) || self.has(short_digest(charge.subject)) {
                continue;
            }
            let subject = Subject::policy("new_keys", limit.name());
            let new: Charges =
                std::iter::once(Charge::new(subject, Arc::clone(limit), 1)).collect();
            let ReserveReply::Judged(mut judged) = self.buckets.dry_run(&new, None).ok()? else {
                continue;
            };
            let before = begun.iter().filter(|bucket| **bucket == subject).count() as u64;
            let state = judged.verdict.states.first_mut()?;
            state.level = state.level.saturating_add_unsigned(limit.amount(before));
            judged.verdict.allowed = limit.shadow() || judge::fits(&new[0], *state);
            if !judged.verdict.allowed && !charge.is_forced() {
                return Some(Decision::from_verdict(&new, &judged.verdict, DecidedBy::NewKeys));
            }
            begun.push(subject);
        }
        None
    }

    /// True if the subject's counter has changed since the tables turned. That follows only what
    /// [`KnownSubjects::refuse`] has let pass, so the subject is in the current generation, or what
    /// an operator or a reservation did, which makes it known. The check reads the counter in any
    /// case, and the lines of the tables are in no near cache.
    fn has_changed_lately(&self, charge: &Charge) -> bool {
        let changed_at = self.counters.as_ref().and_then(|counters| counters.changed_at(charge));
        changed_at.is_some_and(|at| at.get() > self.turned_at.load(Ordering::Relaxed))
    }

    /// True if the subject is known; it does not count as used.
    fn has(&self, digest: u64) -> bool {
        let generations = self.lock(digest);
        generations.current.contains(&digest) || generations.previous.contains(&digest)
    }

    fn knows(&self, digest: u64) -> bool {
        let mut generations = self.lock(digest);
        if generations.current.contains(&digest) {
            return true;
        }
        let was_known = generations.previous.contains(&digest);
        if was_known {
            self.insert(&mut generations, digest);
        }
        was_known
    }

    fn remember(&self, digest: u64) {
        self.insert(&mut self.lock(digest), digest);
    }

    fn insert(&self, generations: &mut Generations, digest: u64) {
        if generations.current.len() >= GENERATION_SIZE {
            generations.previous = std::mem::take(&mut generations.current);
            // Always later, also if the clock has stepped back.
            let last = self.turned_at.load(Ordering::Relaxed);
            let turned_at = self.buckets.now().get().max(last + 1);
            self.turned_at.store(turned_at, Ordering::Relaxed);
        }
        generations.current.insert(digest);
    }

    fn lock(&self, digest: u64) -> std::sync::MutexGuard<'_, Generations> {
        let shard = &self.shards[(digest >> 60) as usize % SHARD_COUNT];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// The refusal of a check whose key is new to this node, if too many of them begin.
    pub(super) fn refuse_new_keys(
        &self,
        plan: &PlanContext<'_, '_>,
        charges: &Charges,
        context: &CheckContext,
    ) -> Option<Decision> {
        let mut decision = self.parts.known_subjects.refuse(charges, &self.latest_subject)?;
        decision.set_key_and_plan(plan.key.clone(), plan.name.clone());
        self.observe_limits(plan.origin(context), charges, None, &decision, None);
        Some(decision)
    }
}

/// 64 bits of a subject's digest: of a million subjects no two share them.
fn short_digest(subject: Subject) -> u64 {
    let digest = subject.digest();
    digest[..8].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Throttle;
    use crate::limit::{ChargeMode, Limit, Unit};
    use crate::time::Clock as _;

    fn limit(shadow: bool) -> Arc<Limit> {
        let throttle = |burst| Throttle::new("1/d".parse().unwrap(), burst).unwrap();
        let new = Limit::new("policy:p/new_keys", Unit::requests(), throttle(10), shadow);
        let limit = Limit::new("policy:p/throttle", Unit::requests(), throttle(2), shadow);
        Arc::new(limit.with_new_subjects(Arc::new(new)))
    }

    fn check(limit: &Arc<Limit>, key: u64, cost: u64) -> Charges {
        let subject = Subject::policy("p", &key.to_string());
        std::iter::once(Charge::new(subject, Arc::clone(limit), cost)).collect()
    }

    fn refuse(known: &KnownSubjects, charges: &Charges) -> Option<Decision> {
        known.refuse(charges, &LatestSubject::default())
    }

    #[test]
    fn new_keys_begin_at_a_bounded_rate_and_known_ones_go_on() {
        let (known, limit) = (KnownSubjects::default(), limit(false));
        let admitted = (0..100).filter(|&key| refuse(&known, &check(&limit, key, 1)).is_none());
        assert_eq!(admitted.collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert!((0..10).all(|key| refuse(&known, &check(&limit, key, 1)).is_none()));
        let refused = refuse(&known, &check(&limit, 50, 1)).unwrap();
        assert_eq!(refused.violated.as_deref(), Some("policy:p/new_keys"));
        assert!(refused.retry_after > crate::time::Micros::ZERO && !refused.allowed());
        assert!(refuse(&known, &check(&limit, 50, 0)).is_none(), "a look begins nothing");
        assert!(refuse(&known, &check(&limit, 50, 1)).is_some(), "and is not remembered");
        assert!(known.would_refuse(&check(&limit, 50, 1)).is_some());
        assert!(known.would_refuse(&check(&limit, 5, 1)).is_none(), "it is known");
        let mut report = check(&limit, 50, 1);
        report[0].mode = ChargeMode::Always;
        assert!(refuse(&known, &report).is_none(), "what was used is charged");
        assert!(refuse(&known, &check(&limit, 50, 1)).is_none(), "from then on it is known");
    }

    #[test]
    fn a_dry_run_says_what_would_happen_to_new_keys_and_begins_none() {
        let (known, limit) = (KnownSubjects::default(), limit(false));
        let keys = |keys: std::ops::Range<u64>| -> Charges {
            keys.flat_map(|key| check(&limit, key, 1)).collect()
        };
        for _ in 0..100 {
            assert!(known.would_refuse(&keys(0..10)).is_none());
            assert!(known.would_refuse(&keys(0..11)).is_some(), "the bucket has ten");
        }
        let refused = |refused: Option<Decision>| refused.map(|it| it.limits[0].status.remaining);
        let would_be = refused(known.would_refuse(&keys(0..11)));
        assert_eq!(would_be, refused(refuse(&known, &keys(0..11))));
    }

    #[test]
    fn a_counter_that_was_charged_since_the_tables_turned_stands_for_its_subject() {
        let (counters, limit) = (MemoryStore::new(Arc::new(SystemClock)), limit(false));
        let known = KnownSubjects::beside(&CounterStore::Memory(counters.clone()));
        assert!((0..10).all(|key| refuse(&known, &check(&limit, key, 1)).is_none()));
        assert!(refuse(&known, &check(&limit, 50, 1)).is_some(), "the bucket is empty");
        std::thread::sleep(std::time::Duration::from_micros(2));
        assert!(counters.judge(&check(&limit, 50, 1)).unwrap().verdict.allowed);
        assert!(known.would_refuse(&check(&limit, 50, 1)).is_none());
        assert!(refuse(&known, &check(&limit, 50, 1)).is_none());
        known.turned_at.store(SystemClock.now().get(), Ordering::Relaxed);
        assert!(refuse(&known, &check(&limit, 50, 1)).is_some(), "no table has it");
        assert!(refuse(&known, &check(&limit, 5, 1)).is_none());
    }

    #[test]
    fn the_latest_subject_is_known_until_the_tables_turn() {
        let (known, limit, latest) =
            (KnownSubjects::default(), limit(false), LatestSubject::default());
        let refuse = |key| known.refuse(&check(&limit, key, 1), &latest).is_some();
        assert!((0..10).all(|key| !refuse(key)));
        known.shards.iter().for_each(|shard| shard.lock().unwrap().current.clear());
        assert!(!refuse(9) && refuse(8) && !refuse(9), "it is not looked up");
        known.turned_at.fetch_add(1, Ordering::Relaxed);
        assert!(refuse(9), "it is looked up again");
    }

    #[test]
    fn the_tables_turn_later_each_time_also_if_the_clock_has_stepped_back() {
        let known = KnownSubjects::default();
        let ahead = known.buckets.now().get() + 3_600_000_000;
        known.turned_at.store(ahead, Ordering::Relaxed);
        (0..=GENERATION_SIZE as u64).for_each(|digest| known.remember(digest));
        assert!(known.turned_at.load(Ordering::Relaxed) > ahead);
    }

    #[test]
    fn a_policy_in_shadow_refuses_no_new_key() {
        let (known, limit) = (KnownSubjects::default(), limit(true));
        assert!((0..100).all(|key| refuse(&known, &check(&limit, key, 1)).is_none()));
    }

    #[test]
    fn a_flood_of_keys_takes_bounded_memory_and_forgets_no_key_in_use() {
        let known = KnownSubjects::default();
        let subject = |key: u64| short_digest(Subject::policy("p", &key.to_string()));
        known.remember(subject(0));
        for key in 1..1_500_000 {
            known.remember(subject(key));
            assert!(key % 1_000 != 0 || known.knows(subject(0)), "{key}");
        }
        let remembered = |shard: &Mutex<Generations>| {
            let generations = shard.lock().unwrap();
            generations.current.len() + generations.previous.len()
        };
        let remembered: usize = known.shards.iter().map(remembered).sum();
        assert!(remembered <= 2 * SHARD_COUNT * GENERATION_SIZE, "{remembered}");
        assert!(!known.knows(subject(1)), "the oldest are forgotten");
    }
}

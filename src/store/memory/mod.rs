//! Counters in this process's memory: the embedded store, and the shares of a lost one.
//!
//! It runs the reference itself. One clock, read while the rows are locked, so that the order of
//! decisions is the order of their times. Nothing here outlives the process.

mod row;
mod shard;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;

use super::Answer;
use crate::algorithm::{self, Row, Rows};
use crate::limit::{Charge, Refund};
use crate::time::{Clock, Micros};
use row::RowKey;
use shard::Shard;

/// Enough that two cores seldom meet, and that growing one moves little.
const SHARDS: usize = 256;
/// How long the sweep takes for all shards.
const SWEEP: Duration = Duration::from_secs(10);

/// Counters in memory; cheap to clone, and all clones are one.
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

struct Inner {
    shards: Vec<Mutex<Shard>>,
    clock: Arc<dyn Clock>,
    judged: AtomicU64,
    /// Mixed into the choice of shard and bucket: whoever chooses subjects must not choose those.
    seed: u64,
}

impl Memory {
    /// No counters yet; `clock` decides.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        let seed = RandomState::new().hash_one("shards") | 1;
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new(seed))).collect();
        Self(Arc::new(Inner { shards, clock, judged: AtomicU64::new(0), seed }))
    }

    /// Judges one check.
    #[must_use]
    pub fn judge(&self, charges: &[Charge]) -> Answer {
        let mut held = Held::lock(&self.0, charges);
        let now = self.0.clock.now();
        let index = self.0.judged.fetch_add(1, Ordering::Relaxed);
        let offer = algorithm::windows(charges, now);
        match algorithm::judge(charges, &offer, now, &mut held) {
            Ok(verdict) => Answer { verdict, index, leased: false },
            Err(elsewhere) => unreachable!("windows around {now:?} do not hold {elsewhere:?}"),
        }
    }

    /// Gives back what was charged and not used.
    pub fn refund(&self, refunds: &[Refund]) {
        for refund in refunds {
            let mut held = Held::lock(&self.0, std::slice::from_ref(&refund.charge));
            algorithm::refund(refund, self.0.clock.now(), &mut held);
        }
    }

    /// What the clock shows.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.0.clock.now()
    }

    /// How many counters there are, drained ones among them until they are swept away.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// The bytes that the tables of counters take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).bytes()).sum()
    }

    /// Forgets what has drained, and gives back memory that is mostly empty.
    pub fn sweep(&self) {
        for shard in &self.0.shards {
            lock(shard).sweep(self.0.clock.now());
        }
    }

    /// Sweeps for ever, one shard after the other, so that no check waits for long; tells `rows`
    /// after each round how many counters there are.
    pub async fn sweep_forever(self, rows: impl Fn(usize)) {
        loop {
            for shard in &self.0.shards {
                tokio::time::sleep(SWEEP / u32::try_from(SHARDS).unwrap_or(1)).await;
                lock(shard).sweep(self.0.clock.now());
            }
            rows(self.rows());
        }
    }
}

/// A panic elsewhere leaves rows whole: each is written in one piece.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shards of one check, locked in ascending order so that two checks never wait for each other.
struct Held<'m> {
    memory: &'m Inner,
    guards: SmallVec<[(usize, MutexGuard<'m, Shard>); 3]>,
}

impl<'m> Held<'m> {
    fn lock(memory: &'m Inner, charges: &[Charge]) -> Self {
        let mut places: SmallVec<[usize; 3]> =
            charges.iter().map(|charge| memory.place(RowKey::of(charge))).collect();
        places.sort_unstable();
        places.dedup();
        let guards = places.into_iter().map(|place| (place, lock(&memory.shards[place]))).collect();
        Self { memory, guards }
    }

    fn shard(&self, key: RowKey) -> usize {
        let place = self.memory.place(key);
        self.guards.iter().position(|(held, _)| *held == place).unwrap_or_default()
    }
}

impl Inner {
    fn place(&self, key: RowKey) -> usize {
        (key.mixed(self.seed) >> 32) as usize % SHARDS
    }
}

impl Rows for Held<'_> {
    fn read(&self, charge: &Charge) -> Option<Row> {
        let key = RowKey::of(charge);
        self.guards[self.shard(key)].1.read(key)
    }

    fn write(&mut self, charge: &Charge, row: Row, until: Micros) {
        let key = RowKey::of(charge);
        let shard = self.shard(key);
        self.guards[shard].1.write(key, row, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Charges, Limit, Rule, Subject, Throttle, Unit};
    use crate::time::ManualClock;

    fn charges(keys: &[u64], cost: u64) -> Charges {
        let throttle = Throttle::new("1/s".parse().unwrap(), 10).unwrap();
        let limit = Arc::new(Limit::new("t", Unit::requests(), Rule::Throttle(throttle), false));
        let charge = |key: &u64| Charge {
            subject: Subject::policy("p", &key.to_string()),
            limit: Arc::clone(&limit),
            cost,
        };
        keys.iter().map(charge).collect()
    }

    fn memory() -> (Arc<ManualClock>, Memory) {
        let clock = Arc::new(ManualClock::default());
        clock.set(Micros::from_secs(1_000_000));
        (Arc::clone(&clock), Memory::new(clock))
    }

    #[test]
    fn subjects_of_one_check_are_charged_together_or_not_at_all() {
        let (_, memory) = memory();
        assert!(memory.judge(&charges(&[1], 8)).verdict.allowed);
        assert!(!memory.judge(&charges(&[1, 2], 5)).verdict.allowed);
        assert_eq!(memory.judge(&charges(&[2], 0)).verdict.readings[0].held, 0);
        assert!(memory.judge(&charges(&[1, 2], 2)).verdict.allowed);
    }

    #[test]
    fn keys_that_come_and_go_leave_no_memory_behind() {
        let (clock, memory) = memory();
        let keys = 100_000;
        for key in 0..keys {
            assert!(memory.judge(&charges(&[key], 1)).verdict.allowed);
        }
        let full = memory.bytes();
        assert!(full <= 96 * 100_000, "{full} bytes");
        memory.sweep();
        assert_eq!(memory.rows(), 100_000);
        clock.set(Micros::from_secs(1_000_010));
        memory.sweep();
        assert_eq!(memory.rows(), 0);
        assert!(memory.bytes() * 20 < full, "{} of {full} bytes are left", memory.bytes());
    }

    #[test]
    fn no_two_threads_admit_more_than_the_burst() {
        let (_, memory) = memory();
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..100)
                            .filter(|_| memory.judge(&charges(&[7, 8, 9], 1)).verdict.allowed)
                            .count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 10);
    }
}

//! Counters in this process's memory: the embedded store, and the shares of a lost one.
//!
//! It runs the reference itself. One clock, read while the rows are locked, so that the order of
//! decisions is the order of their times. Without a data directory nothing outlives the process.

mod disk;
mod locked_rows;
mod row;
mod shard;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{CounterUsage, DataDirError, StoreError, StoreVerdict};
use crate::algorithm::{Correction, calendar_quota::Count};
use crate::judge::usage::{self, UsageRows as _};
use crate::judge::{self, NotJudged};
use crate::limit::{Charge, Refund, RowId};
use crate::time::{Clock, Micros};
use disk::{DirtyRow, Disk};
use locked_rows::LockedRows;
use row::RowKey;
use shard::Shard;

/// Enough that two cores seldom meet, and that growing one moves little.
const SHARD_COUNT: usize = 256;
/// How often what has changed goes to the disk.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// How long the sweep takes for all shards.
const SWEEP_PERIOD: Duration = Duration::from_secs(10);

/// Counters in memory; cheap to clone, and all clones are one.
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

struct Inner {
    shards: Vec<Mutex<Shard>>,
    clock: Arc<dyn Clock>,
    judged_count: AtomicU64,
    /// Mixed into the choice of shard and bucket: whoever chooses subjects must not choose those.
    seed: u64,
    disk: Option<Disk>,
}

impl MemoryStore {
    /// No counters yet; `clock` decides.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_disk(None, clock)
    }

    /// The counters in `folder`, which is made where it is missing. They are written there by
    /// [`MemoryStore::save`] only.
    ///
    /// # Errors
    /// Where the folder or its file cannot be used.
    pub fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, DataDirError> {
        let memory = Self::with_disk(Some(Disk::open(folder)?), clock);
        let shard = |key: RowKey| lock(&memory.0.shards[memory.0.shard_index(key)]);
        let now = memory.now();
        if let Some(disk) = &memory.0.disk {
            disk.load(
                |key, row| {
                    if !row.is_known() {
                        // Left on the disk for the release that knows it.
                    } else if row.is_expired(now) {
                        shard(key).mark_dirty(key);
                    } else {
                        shard(key).restore(key, row);
                    }
                },
                |key, days| shard(key).restore_days(key, days),
            )?;
        }
        Ok(memory)
    }

    fn with_disk(disk: Option<Disk>, clock: Arc<dyn Clock>) -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        let seed = RandomState::new().hash_one("shards") | 1;
        let shards =
            (0..SHARD_COUNT).map(|_| Mutex::new(Shard::new(seed, disk.is_some()))).collect();
        Self(Arc::new(Inner { shards, clock, judged_count: AtomicU64::new(0), seed, disk }))
    }

    /// Writes what has changed since the last time to the disk, where there is one.
    ///
    /// # Errors
    /// Where it cannot be written; it is then written the next time.
    pub fn save(&self) -> Result<(), StoreError> {
        let Some(disk) = &self.0.disk else { return Ok(()) };
        let dirty = self.0.shards.iter().map(|shard| lock(shard).take_dirty());
        let dirty: Vec<DirtyRow> = dirty.flatten().collect();
        if dirty.is_empty() {
            return Ok(());
        }
        disk.write(&dirty).inspect_err(|_| {
            for DirtyRow { key, .. } in &dirty {
                lock(&self.0.shards[self.0.shard_index(*key)]).mark_dirty(*key);
            }
        })
    }

    /// Saves once a second, for ever.
    pub async fn save_forever(self) {
        loop {
            tokio::time::sleep(SAVE_INTERVAL).await;
            let memory = self.clone();
            let saved = tokio::task::spawn_blocking(move || memory.save()).await;
            if let Ok(Err(error)) = saved {
                tracing::error!(%error, "counters were not saved; a crash would lose them");
            }
        }
    }

    /// Judges one check.
    #[must_use]
    pub fn judge(&self, charges: &[Charge]) -> StoreVerdict {
        match self.judge_locked(charges, LockedRows::lock_rows(&self.0, charges), false) {
            Err(NotJudged::DayRollover) => {
                self.judge_locked(charges, LockedRows::lock_usage(&self.0, charges), true)
            }
            judged => judged,
        }
        .unwrap_or_else(|why| unreachable!("the windows are offered and all days kept: {why:?}"))
    }

    fn judge_locked(
        &self,
        charges: &[Charge],
        mut locked: LockedRows<'_>,
        close_days: bool,
    ) -> Result<StoreVerdict, NotJudged> {
        let now = self.0.clock.now();
        if close_days {
            locked.close_days(charges, now);
        }
        let verdict =
            judge::judge(charges, &judge::offered_windows(charges, now), now, &mut locked)?;
        let index = self.0.judged_count.fetch_add(1, Ordering::Relaxed);
        Ok(StoreVerdict { verdict, index, leased: false })
    }

    /// Gives back what was charged and not used.
    pub fn refund(&self, refunds: &[Refund]) {
        for refund in refunds {
            let mut locked = LockedRows::lock_rows(&self.0, std::slice::from_ref(&refund.charge));
            judge::refund(refund, self.0.clock.now(), &mut locked);
        }
    }

    /// What is known of counters whose days are kept.
    #[must_use]
    pub fn usage(&self, charges: &[Charge]) -> (Micros, Vec<CounterUsage>) {
        let usage = |charge: &Charge| {
            let locked = LockedRows::lock_usage(&self.0, std::slice::from_ref(charge));
            let limit = &charge.limit;
            let rows = [
                Some(limit.row()),
                limit.counterpart_row(),
                limit.reported_quota().map(|quota| quota.row()),
            ];
            let count = |row: RowId| {
                locked.row(RowKey::new(charge.subject, row)).as_ref().and_then(Count::from_row)
            };
            let [count, other, quota] = rows.map(|row| row.and_then(count));
            CounterUsage { counts: [count, other], quota, days: locked.days(charge) }
        };
        (self.0.clock.now(), charges.iter().map(usage).collect())
    }

    /// Keeps the days of `charges` that are over, then corrects counters among them, as one.
    pub fn correct(&self, charges: &[Charge], corrections: &[(usize, Correction)]) {
        let mut locked = LockedRows::lock_usage(&self.0, charges);
        let now = self.0.clock.now();
        locked.close_days(charges, now);
        let offered = judge::offered_windows(charges, now);
        for &(place, correction) in corrections {
            let done = usage::apply_correction(
                &charges[place],
                correction,
                offered[place].as_ref(),
                now,
                &mut locked,
            );
            done.unwrap_or_else(|why| unreachable!("windows around {now:?}: {why:?}"));
        }
    }

    /// What the clock shows.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.0.clock.now()
    }

    /// How many counters there are, drained ones among them until they are swept away.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// The bytes that the tables of counters take.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
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
                tokio::time::sleep(SWEEP_PERIOD / u32::try_from(SHARD_COUNT).unwrap_or(1)).await;
                lock(shard).sweep(self.0.clock.now());
            }
            rows(self.row_count());
        }
    }
}

/// A panic elsewhere leaves rows whole: each is written in one piece.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn shard_index(&self, key: RowKey) -> usize {
        (key.mixed(self.seed) >> 32) as usize % SHARD_COUNT
    }
}

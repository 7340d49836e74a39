//! Counters in this process's memory: the embedded store, and the node's share while Redis is lost.
//!
//! It runs the reference itself, with one clock that is read while the rows are locked, so that
//! decisions are ordered by their times. Without a data directory nothing outlives the process.

mod ceiling;
mod disk;
mod dry_run;
mod locked_rows;
mod reservations;
mod row;
mod shard;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{
    AdjustReply, AdjustedReservation, CounterUsage, DataDir, DataDirError, ReserveReply,
    StoreError, StoreVerdict,
};
use crate::algorithm::{Correction, Counting as _, calendar_quota::Count};
use crate::judge::reservation::{self, Adjusted};
use crate::judge::usage::{self, UsageRows as _};
use crate::judge::{self, NotJudged};
use crate::limit::{Adjustment, Charge, Limit, NewReservation, Refund, RowId};
use crate::telemetry::LogThrottle;
use crate::time::{Clock, Micros};
use crate::watch::next_tick;
use disk::{DirtyRow, Disk};
use locked_rows::LockedRows;
use row::RowKey;
use shard::Shard;

/// The number of shards: two cores seldom contend for one, and growing one moves few rows.
const SHARD_COUNT: usize = 256;
/// The steps of a sweep over all shards, which takes 9.6 s. Each wakes a thread, also of an idle
/// node.
const SWEEP_STEPS: usize = 16;
/// The interval of the steps. It is a multiple of that of the polls, which wake the thread as well.
const SWEEP_INTERVAL: Duration = Duration::from_millis(600);
/// Counters in memory; clones share them.
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

struct Inner {
    shards: Vec<Mutex<Shard>>,
    clock: Arc<dyn Clock>,
    /// A secret seed of shard and hash bucket: an attacker who chooses subjects must not choose
    /// those.
    seed: u64,
    disk: Option<Disk>,
    rows: AtomicUsize,
    max_rows: usize,
    /// The shard to sweep next when a new subject needs room.
    hand: AtomicUsize,
}

impl MemoryStore {
    /// The interval at which changed counters are written to the disk.
    pub const SAVE_INTERVAL: Duration = Duration::from_secs(1);

    /// An empty store without a ceiling that judges by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_ceiling(clock, usize::MAX)
    }

    /// An empty store that judges by `clock`. From `max_rows` counters on it refuses subjects that
    /// callers make up and that it does not know; further counters of other subjects are stored.
    #[must_use]
    pub fn with_ceiling(clock: Arc<dyn Clock>, max_rows: usize) -> Self {
        Self::with_disk(None, clock, max_rows)
    }

    /// A store with the counters saved in the data directory: all of them, also beyond `max_rows`.
    /// Only [`MemoryStore::save`] writes them there.
    ///
    /// # Errors
    /// If the file of the counters cannot be used.
    pub fn open(
        dir: &DataDir,
        clock: Arc<dyn Clock>,
        max_rows: usize,
    ) -> Result<Self, DataDirError> {
        let memory = Self::with_disk(Some(Disk::open(dir)?), clock, max_rows);
        let shard = |key: RowKey| lock(&memory.0.shards[memory.0.shard_index(key)]);
        let now = memory.now();
        if let Some(disk) = &memory.0.disk {
            disk.load(
                |key, row| {
                    if !row.is_known() {
                        // It stays on the disk for the release that wrote it.
                    } else if row.is_expired(now) {
                        shard(key).mark_dirty(key);
                    } else {
                        shard(key).restore(key, row);
                    }
                },
                |key, days| shard(key).restore_days(key, days),
            )?;
        }
        let restored = memory.0.shards.iter().map(|shard| lock(shard).len()).sum();
        memory.0.rows.store(restored, Ordering::Relaxed);
        Ok(memory)
    }

    fn with_disk(disk: Option<Disk>, clock: Arc<dyn Clock>, max_rows: usize) -> Self {
        let seed = getrandom::u64().unwrap_or_else(|error| unreachable!("no randomness: {error}"));
        let seed = seed | 1;
        let shards =
            (0..SHARD_COUNT).map(|_| Mutex::new(Shard::new(seed, disk.is_some()))).collect();
        Self(Arc::new(Inner {
            shards,
            clock,
            seed,
            disk,
            rows: AtomicUsize::new(0),
            max_rows,
            hand: AtomicUsize::new(0),
        }))
    }

    /// Writes the counters that changed since the last save to the disk, if there is one.
    ///
    /// # Errors
    /// If they cannot be written; the next save includes them.
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

    /// True while the data directory cannot be used; checks are judged all the same.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.0.disk.as_ref().is_some_and(Disk::is_failing)
    }

    /// Saves once a second, forever; returns if there is no data directory.
    pub async fn save_forever(self) {
        if self.0.disk.is_none() {
            return;
        }
        let warning = LogThrottle::default();
        loop {
            tokio::time::sleep(Self::SAVE_INTERVAL).await;
            let memory = self.clone();
            let saved = tokio::task::spawn_blocking(move || memory.save()).await;
            if let Ok(Err(error)) = saved
                && warning.is_due()
            {
                tracing::error!(%error, "counters were not saved; a crash would lose them");
            }
        }
    }

    /// Judges one check.
    ///
    /// # Errors
    /// If it has a new subject, and the store is at its ceiling.
    pub fn judge(&self, charges: &[Charge]) -> Result<StoreVerdict, StoreError> {
        self.with_room(|| {
            match self.judge_locked(charges, LockedRows::lock_rows(&self.0, charges), false) {
                Err(NotJudged::DayRollover) => {
                    self.judge_locked(charges, LockedRows::lock_usage(&self.0, charges), true)
                }
                judged => judged,
            }
        })
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
        Ok(StoreVerdict { verdict, index: locked.next_index(), leased: false })
    }

    /// Judges a check and opens a reservation if it is allowed.
    ///
    /// # Errors
    /// If it has a new subject, and the store is at its ceiling.
    pub fn reserve(
        &self,
        charges: &[Charge],
        new: &NewReservation,
    ) -> Result<ReserveReply, StoreError> {
        let (reserved, index) = self.with_room(|| {
            let mut locked = LockedRows::lock_reservation(&self.0, new.name, charges);
            let now = self.0.clock.now();
            let offered = judge::offered_windows(charges, now);
            let reserve =
                |locked: &mut _| reservation::reserve(charges, &offered, new, now, locked);
            let reserved = match reserve(&mut locked) {
                Err(NotJudged::DayRollover) => {
                    locked.close_days(charges, now);
                    reserve(&mut locked)
                }
                reserved => reserved,
            };
            Ok((reserved?, locked.next_index()))
        })?;
        Ok(ReserveReply::new(reserved, index))
    }

    /// Settles, cancels or extends a reservation.
    #[must_use]
    pub fn adjust(&self, adjustment: &Adjustment) -> AdjustReply {
        let looks = adjustment.looks();
        let mut locked = LockedRows::lock_reservation(&self.0, adjustment.name, &looks);
        let now = self.0.clock.now();
        let windows = |limit: &Arc<Limit>| limit.calendar().map(|calendar| calendar.windows(now));
        let adjusted = adjustment.charges.iter();
        let offered: Vec<_> =
            adjusted.map(|charge| charge.limit.as_ref().and_then(windows)).collect();
        let adjust = |locked: &mut _| reservation::adjust(adjustment, &offered, now, locked);
        let adjusted = adjust(&mut locked).or_else(|_| {
            locked.close_days(&looks, now);
            adjust(&mut locked)
        });
        match adjusted.unwrap_or_else(|why| unjudged(why)) {
            Adjusted::Unknown => AdjustReply::Unknown,
            Adjusted::Done { is_late, charges } => AdjustReply::Adjusted(AdjustedReservation {
                now,
                index: locked.next_index(),
                is_late,
                charges,
            }),
        }
    }

    /// Refunds units that were charged and not used.
    pub fn refund(&self, refunds: &[Refund]) {
        for refund in refunds {
            let mut locked = LockedRows::lock_rows(&self.0, std::slice::from_ref(&refund.charge));
            judge::refund(refund, self.0.clock.now(), &mut locked);
        }
    }

    /// The usage of counters whose days are kept, and the store's time.
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

    /// Keeps the days of `charges` that are over, then corrects counters among them, atomically.
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

    /// The time at which a counter was last changed; `None` if there is none, or its row does not
    /// have it.
    #[must_use]
    pub fn changed_at(&self, charge: &Charge) -> Option<Micros> {
        let key = RowKey::from_charge(charge);
        let row = lock(&self.0.shards[self.0.shard_index(key)]).read(key)?;
        charge.limit.algorithm().changed_at(&row)
    }

    /// The store's time.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.0.clock.now()
    }

    /// The number of counters, including expired ones until the next sweep.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.0.rows.load(Ordering::Relaxed)
    }

    /// The size of the tables of counters, in bytes.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).bytes()).sum()
    }

    /// Removes expired counters, and shrinks tables that are mostly empty.
    pub fn sweep(&self) {
        for shard in &self.0.shards {
            self.0.sweep(&mut lock(shard), self.0.clock.now());
        }
    }

    /// Sweeps forever, one shard after the other, so that no check waits for long; calls `rows`
    /// with the number of counters after each round.
    pub async fn sweep_forever(self, rows: impl Fn(usize)) {
        loop {
            for shards in self.0.shards.chunks(SHARD_COUNT.div_ceil(SWEEP_STEPS)) {
                next_tick(SWEEP_INTERVAL).await;
                for shard in shards {
                    self.0.sweep(&mut lock(shard), self.0.clock.now());
                }
            }
            rows(self.row_count());
        }
    }
}

/// The clock is read once, so windows are offered around it, and all days are kept.
fn unjudged(why: NotJudged) -> ! {
    unreachable!("the windows are offered and all days kept: {why:?}")
}

/// Locks a shard. A panic elsewhere leaves its rows whole: each is written in one piece.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn shard_index(&self, key: RowKey) -> usize {
        (key.mixed(self.seed) >> 32) as usize % SHARD_COUNT
    }
}

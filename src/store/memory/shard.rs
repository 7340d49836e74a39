//! One shard of the tables: hash maps of rows and days, and their sweep. Locking is the store's.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};

use super::disk::DirtyRow;
use super::reservations::ReservationTables;
use super::row::{PackedRow, RowKey};
use crate::algorithm::Row;
use crate::judge::usage::UsageDays;
use crate::time::Micros;

/// The capacity up to which a table is not shrunk.
const MIN_SHRINK_CAPACITY: usize = 64;

/// The counters of a shard, and the days of those that have any.
pub(super) struct Shard {
    rows: HashMap<RowKey, PackedRow, SeedHasher>,
    days: HashMap<RowKey, UsageDays, SeedHasher>,
    /// The tables that only reservations use; not saved to the disk.
    pub(super) reservations: ReservationTables,
    /// The keys not written to the disk yet, if there is one.
    dirty: Option<HashSet<RowKey, SeedHasher>>,
    swept_at: Micros,
    /// The number of the last decision on one of its rows.
    pub(super) last_index: u64,
}

impl Shard {
    pub(super) fn new(seed: u64, on_disk: bool) -> Self {
        let hasher = || SeedHasher::new(seed);
        let dirty = on_disk.then(|| HashSet::with_hasher(hasher()));
        let (rows, days) = (HashMap::with_hasher(hasher()), HashMap::with_hasher(hasher()));
        let reservations = ReservationTables::new(seed);
        Self { rows, days, reservations, dirty, swept_at: Micros::ZERO, last_index: 0 }
    }

    /// The time of the last sweep.
    pub(super) fn swept_at(&self) -> Micros {
        self.swept_at
    }

    /// Inserts a row loaded from the disk.
    pub(super) fn restore(&mut self, key: RowKey, row: PackedRow) {
        self.rows.insert(key, row);
    }

    /// Inserts days loaded from the disk.
    pub(super) fn restore_days(&mut self, key: RowKey, days: UsageDays) {
        self.days.insert(key, days);
    }

    /// Takes the entries that are not on the disk yet.
    pub(super) fn take_dirty(&mut self) -> Vec<DirtyRow> {
        let dirty: Vec<RowKey> = self.dirty.iter_mut().flat_map(HashSet::drain).collect();
        let dirty = dirty.into_iter().map(|key| DirtyRow {
            key,
            row: self.rows.get(&key).copied(),
            days: self.days.get(&key).cloned(),
        });
        dirty.collect()
    }

    /// Marks a key as not written to the disk yet.
    pub(super) fn mark_dirty(&mut self, key: RowKey) {
        if let Some(dirty) = &mut self.dirty {
            dirty.insert(key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The size of the table of rows in bytes. A hash table keeps an eighth of its slots free, and
    /// one byte beside each slot.
    pub(super) fn bytes(&self) -> usize {
        self.rows.capacity() * 8 / 7 * (size_of::<(RowKey, PackedRow)>() + 1)
    }

    pub(super) fn read(&self, key: RowKey) -> Option<Row> {
        self.rows.get(&key).and_then(PackedRow::unpack)
    }

    /// Writes a row, and returns true if there was none under this key.
    pub(super) fn write(&mut self, key: RowKey, row: &Row, until: Micros) -> bool {
        let is_new = self.rows.insert(key, PackedRow::new(row, until)).is_none();
        self.mark_dirty(key);
        is_new
    }

    pub(super) fn days(&self, key: RowKey) -> UsageDays {
        self.days.get(&key).cloned().unwrap_or_default()
    }

    pub(super) fn write_days(&mut self, key: RowKey, days: UsageDays) {
        self.days.insert(key, days);
        self.mark_dirty(key);
    }

    /// Removes what has expired, and returns the number of rows among it.
    pub(super) fn sweep(&mut self, now: Micros) -> usize {
        let before = self.rows.len();
        self.swept_at = now;
        let mut mark_removed = |key: &RowKey, kept: bool| {
            if let (Some(dirty), false) = (&mut self.dirty, kept) {
                dirty.insert(*key);
            }
            kept
        };
        self.reservations.sweep(now);
        self.days.retain(|key, days| mark_removed(key, days.is_reportable(now)));
        self.rows.retain(|key, row| mark_removed(key, !row.is_expired(now)));
        if self.rows.capacity() > MIN_SHRINK_CAPACITY && self.rows.len() < self.rows.capacity() / 4
        {
            self.rows.shrink_to(self.rows.len() * 2);
        }
        before - self.rows.len()
    }
}

impl Hash for RowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.bytes());
    }
}

/// A hasher for keys that are digests already: it only mixes them with the seed.
#[derive(Clone)]
pub(super) struct SeedHasher {
    seed: u64,
    hash: u64,
}

impl SeedHasher {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, hash: 0 }
    }
}

impl BuildHasher for SeedHasher {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        self.clone()
    }
}

impl Hasher for SeedHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.hash = RowKey::from_bytes(bytes).mixed(self.seed);
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

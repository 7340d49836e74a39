//! One part of the table: a hash map and how it is swept.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};

use super::disk::Changed;
use super::row::{PackedRow, RowKey};
use crate::algorithm::Row;
use crate::algorithm::days::Days;
use crate::time::Micros;

/// Below this a table is not worth shrinking.
const SMALL: usize = 64;

/// The counters whose keys fall here, and the days of those that have any.
pub(super) struct Shard {
    rows: HashMap<RowKey, PackedRow, Mixer>,
    days: HashMap<RowKey, Days, Mixer>,
    /// What is not on the disk yet, where there is one.
    changed: Option<HashSet<RowKey, Mixer>>,
}

impl Shard {
    pub(super) fn new(seed: u64, on_disk: bool) -> Self {
        let mixer = || Mixer { seed, hash: 0 };
        let changed = on_disk.then(|| HashSet::with_hasher(mixer()));
        let (rows, days) = (HashMap::with_hasher(mixer()), HashMap::with_hasher(mixer()));
        Self { rows, days, changed }
    }

    /// A row as it was on the disk.
    pub(super) fn restore(&mut self, key: RowKey, row: PackedRow) {
        self.rows.insert(key, row);
    }

    /// Days as they were on the disk.
    pub(super) fn restore_days(&mut self, key: RowKey, days: Days) {
        self.days.insert(key, days);
    }

    /// Takes out what is not on the disk yet.
    pub(super) fn changes(&mut self) -> Vec<Changed> {
        let changed: Vec<RowKey> = self.changed.iter_mut().flat_map(HashSet::drain).collect();
        let changed = changed.into_iter().map(|key| Changed {
            key,
            row: self.rows.get(&key).copied(),
            days: self.days.get(&key).cloned(),
        });
        changed.collect()
    }

    /// That a key is not on the disk as it is.
    pub(super) fn mark(&mut self, key: RowKey) {
        if let Some(changed) = &mut self.changed {
            changed.insert(key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Hash tables keep an eighth of their slots free, and a byte beside each slot.
    pub(super) fn bytes(&self) -> usize {
        self.rows.capacity() * 8 / 7 * (size_of::<(RowKey, PackedRow)>() + 1)
    }

    pub(super) fn read(&self, key: RowKey) -> Option<Row> {
        self.rows.get(&key).map(PackedRow::unpack)
    }

    pub(super) fn write(&mut self, key: RowKey, row: Row, until: Micros) {
        self.rows.insert(key, PackedRow::new(row, until));
        self.mark(key);
    }

    pub(super) fn days(&self, key: RowKey) -> Days {
        self.days.get(&key).cloned().unwrap_or_default()
    }

    pub(super) fn write_days(&mut self, key: RowKey, days: Days) {
        self.days.insert(key, days);
        self.mark(key);
    }

    pub(super) fn sweep(&mut self, now: Micros) {
        let mut note = |key: &RowKey, kept: bool| {
            if let (Some(changed), false) = (&mut self.changed, kept) {
                changed.insert(*key);
            }
            kept
        };
        self.days.retain(|key, days| note(key, days.matter(now)));
        self.rows.retain(|key, row| note(key, !row.is_spent(now)));
        if self.rows.capacity() > SMALL && self.rows.len() < self.rows.capacity() / 4 {
            self.rows.shrink_to(self.rows.len() * 2);
        }
    }
}

impl Hash for RowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.bytes());
    }
}

/// The keys are digests already: they only need mixing with the seed.
#[derive(Clone)]
struct Mixer {
    seed: u64,
    hash: u64,
}

impl BuildHasher for Mixer {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        self.clone()
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        self.hash = RowKey::from_bytes(bytes).mixed(self.seed);
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

//! One part of the table: a hash map and how it is swept.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};

use super::row::{PackedRow, RowKey};
use crate::algorithm::Row;
use crate::time::Micros;

/// Below this a table is not worth shrinking.
const SMALL: usize = 64;

/// The counters whose keys fall here.
pub(super) struct Shard(HashMap<RowKey, PackedRow, Mixer>);

impl Shard {
    pub(super) fn new(seed: u64) -> Self {
        Self(HashMap::with_hasher(Mixer { seed, hash: 0 }))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Hash tables keep an eighth of their slots free, and a byte beside each slot.
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * 8 / 7 * (size_of::<(RowKey, PackedRow)>() + 1)
    }

    pub(super) fn read(&self, key: RowKey) -> Option<Row> {
        self.0.get(&key).map(PackedRow::unpack)
    }

    pub(super) fn write(&mut self, key: RowKey, row: Row, until: Micros) {
        self.0.insert(key, PackedRow::new(row, until));
    }

    pub(super) fn sweep(&mut self, now: Micros) {
        self.0.retain(|_, row| !row.is_spent(now));
        if self.0.capacity() > SMALL && self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(self.0.len() * 2);
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

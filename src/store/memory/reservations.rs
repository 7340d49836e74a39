//! The tables of a shard that only reservations use: annexes of counters, numbers of subjects, and
//! the reservations themselves. They are not saved to the disk: after a restart a settlement finds
//! no reservation, and what was charged stays.

use std::collections::HashMap;

use super::row::RowKey;
use super::shard::SeedHasher;
use crate::judge::reservation::{KeptReservation, ReservationNumbers};
use crate::limit::LATE_SETTLEMENT;
use crate::time::Micros;

/// The tables of one shard.
pub(super) struct ReservationTables {
    annexes: HashMap<RowKey, Annex, SeedHasher>,
    numbers: HashMap<RowKey, ReservationNumbers, SeedHasher>,
    reservations: HashMap<RowKey, KeptReservation, SeedHasher>,
}

/// The annex of a counter, and the time from which it means nothing.
struct Annex {
    bytes: Vec<u8>,
    until: Micros,
}

impl ReservationTables {
    pub(super) fn new(seed: u64) -> Self {
        let hasher = || SeedHasher::new(seed);
        Self {
            annexes: HashMap::with_hasher(hasher()),
            numbers: HashMap::with_hasher(hasher()),
            reservations: HashMap::with_hasher(hasher()),
        }
    }

    /// The annex of a counter; empty if it has none.
    pub(super) fn annex(&self, key: RowKey) -> Vec<u8> {
        // Most shards have no annexes, and every check asks.
        if self.annexes.is_empty() {
            return Vec::new();
        }
        self.annexes.get(&key).map(|annex| annex.bytes.clone()).unwrap_or_default()
    }

    /// Replaces an annex; an empty one is removed. Without `until` the time of the old one stays.
    pub(super) fn write_annex(&mut self, key: RowKey, bytes: Vec<u8>, until: Option<Micros>) {
        if bytes.is_empty() {
            self.annexes.remove(&key);
            return;
        }
        let annex =
            self.annexes.entry(key).or_insert(Annex { bytes: Vec::new(), until: Micros::ZERO });
        annex.bytes = bytes;
        annex.until = annex.until.max(until.unwrap_or_default());
    }

    pub(super) fn numbers(&self, key: RowKey) -> Option<ReservationNumbers> {
        self.numbers.get(&key).copied()
    }

    pub(super) fn write_numbers(&mut self, key: RowKey, numbers: ReservationNumbers) {
        self.numbers.insert(key, numbers);
    }

    pub(super) fn reservation(&self, key: RowKey) -> Option<KeptReservation> {
        self.reservations.get(&key).cloned()
    }

    pub(super) fn write_reservation(&mut self, key: RowKey, kept: Option<KeptReservation>) {
        match kept {
            Some(kept) => self.reservations.insert(key, kept),
            None => self.reservations.remove(&key),
        };
    }

    /// Removes what can no longer matter.
    pub(super) fn sweep(&mut self, now: Micros) {
        self.annexes.retain(|_, annex| annex.until >= now);
        self.numbers.retain(|_, numbers| numbers.until >= now);
        self.reservations.retain(|_, kept| kept.ends + LATE_SETTLEMENT >= now);
    }
}

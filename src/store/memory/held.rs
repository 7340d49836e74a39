//! The shards of one check or correction, locked in ascending order so that two never wait for each
//! other.

use std::sync::MutexGuard;

use smallvec::SmallVec;

use super::row::RowKey;
use super::shard::Shard;
use super::{Inner, lock};
use crate::algorithm::days::{self, Days, Diary};
use crate::algorithm::{Row, Rows};
use crate::limit::{Charge, Rule};
use crate::time::Micros;

/// Rows, and where asked for also their days, under lock.
pub(super) struct Held<'m> {
    memory: &'m Inner,
    guards: SmallVec<[(usize, MutexGuard<'m, Shard>); 3]>,
}

impl<'m> Held<'m> {
    /// The rows of `charges`.
    pub(super) fn rows(memory: &'m Inner, charges: &[Charge]) -> Self {
        Self::lock(memory, charges.iter().map(RowKey::of))
    }

    /// The rows of `charges`, their days, and the quotas that are told with those.
    pub(super) fn diaries(memory: &'m Inner, charges: &[Charge]) -> Self {
        let keys = charges.iter().flat_map(|charge| {
            let limit = &charge.limit;
            let quota = limit.told_quota().map(|quota| quota.row());
            let rows = [Some(limit.row()), limit.other_count(), limit.days_row(), quota];
            rows.into_iter().flatten().map(|row| RowKey::new(charge.subject, row))
        });
        Self::lock(memory, keys)
    }

    fn lock(memory: &'m Inner, keys: impl Iterator<Item = RowKey>) -> Self {
        let mut places: SmallVec<[usize; 3]> = keys.map(|key| memory.place(key)).collect();
        places.sort_unstable();
        places.dedup();
        let guards = places.into_iter().map(|place| (place, lock(&memory.shards[place]))).collect();
        Self { memory, guards }
    }

    fn shard(&self, key: RowKey) -> usize {
        let place = self.memory.place(key);
        self.guards.iter().position(|(held, _)| *held == place).unwrap_or_default()
    }

    /// The row under a key.
    pub(super) fn row(&self, key: RowKey) -> Option<Row> {
        self.guards[self.shard(key)].1.read(key)
    }

    /// Keeps the days of `charges` that are over.
    pub(super) fn keep_days(&mut self, charges: &[Charge], now: Micros) {
        for charge in charges.iter().filter(|charge| charge.limit.keeps_days()) {
            if let Rule::Quota(quota) = charge.limit.rule() {
                let kept = days::keep(charge, &quota.calendar.windows(now), now, self);
                kept.unwrap_or_else(|why| unreachable!("windows around {now:?}: {why:?}"));
            }
        }
    }
}

impl Rows for Held<'_> {
    fn read(&self, charge: &Charge) -> Option<Row> {
        self.row(RowKey::of(charge))
    }

    fn write(&mut self, charge: &Charge, row: Row, until: Micros) {
        let key = RowKey::of(charge);
        let shard = self.shard(key);
        self.guards[shard].1.write(key, row, until);
    }
}

impl Diary for Held<'_> {
    fn days(&self, charge: &Charge) -> Days {
        let key = days_key(charge);
        self.guards[self.shard(key)].1.days(key)
    }

    fn write_days(&mut self, charge: &Charge, days: Days) {
        let key = days_key(charge);
        let shard = self.shard(key);
        self.guards[shard].1.write_days(key, days);
    }
}

fn days_key(charge: &Charge) -> RowKey {
    RowKey::new(charge.subject, charge.limit.grants_row())
}

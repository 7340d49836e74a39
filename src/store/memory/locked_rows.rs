//! The shards of one check or correction, locked in ascending order, which excludes deadlocks.

use std::sync::MutexGuard;

use smallvec::SmallVec;

use super::row::RowKey;
use super::shard::Shard;
use super::{Inner, lock};
use crate::algorithm::Row;
use crate::judge::Rows;
use crate::judge::usage::{self, UsageDays, UsageRows};
use crate::limit::Charge;
use crate::time::Micros;

/// Locked rows, with their days if requested.
pub(super) struct LockedRows<'m> {
    memory: &'m Inner,
    guards: SmallVec<[(usize, MutexGuard<'m, Shard>); 3]>,
}

impl<'m> LockedRows<'m> {
    /// Locks the rows of `charges`.
    pub(super) fn lock_rows(memory: &'m Inner, charges: &[Charge]) -> Self {
        Self::lock_shards(memory, charges.iter().map(RowKey::from_charge))
    }

    /// Locks the rows of `charges`, their days, and the quotas reported with those.
    pub(super) fn lock_usage(memory: &'m Inner, charges: &[Charge]) -> Self {
        let keys = charges.iter().flat_map(|charge| {
            let limit = &charge.limit;
            let quota = limit.reported_quota().map(|quota| quota.row());
            let rows = [Some(limit.row()), limit.counterpart_row(), limit.usage_row(), quota];
            rows.into_iter().flatten().map(|row| RowKey::new(charge.subject, row))
        });
        Self::lock_shards(memory, keys)
    }

    fn lock_shards(memory: &'m Inner, keys: impl Iterator<Item = RowKey>) -> Self {
        let mut places: SmallVec<[usize; 3]> = keys.map(|key| memory.shard_index(key)).collect();
        places.sort_unstable();
        places.dedup();
        let guards = places.into_iter().map(|place| (place, lock(&memory.shards[place]))).collect();
        Self { memory, guards }
    }

    fn guard_index(&self, key: RowKey) -> usize {
        let place = self.memory.shard_index(key);
        self.guards.iter().position(|(locked, _)| *locked == place).unwrap_or_default()
    }

    /// The row under a key.
    pub(super) fn row(&self, key: RowKey) -> Option<Row> {
        self.guards[self.guard_index(key)].1.read(key)
    }

    /// Keeps the days of `charges` that are over.
    pub(super) fn close_days(&mut self, charges: &[Charge], now: Micros) {
        for charge in charges.iter().filter(|charge| charge.limit.tracks_days()) {
            let windows = charge.limit.calendar().map(|calendar| calendar.windows(now));
            let closed = usage::close_day(charge, windows.as_ref(), now, self);
            closed.unwrap_or_else(|why| unreachable!("windows around {now:?}: {why:?}"));
        }
    }
}

impl Rows for LockedRows<'_> {
    fn read(&self, charge: &Charge) -> Option<Row> {
        self.row(RowKey::from_charge(charge))
    }

    fn write(&mut self, charge: &Charge, row: Row, until: Micros) {
        let key = RowKey::from_charge(charge);
        let index = self.guard_index(key);
        self.guards[index].1.write(key, &row, until);
    }
}

impl UsageRows for LockedRows<'_> {
    fn days(&self, charge: &Charge) -> UsageDays {
        let key = usage_key(charge);
        self.guards[self.guard_index(key)].1.days(key)
    }

    fn write_days(&mut self, charge: &Charge, days: UsageDays) {
        let key = usage_key(charge);
        let index = self.guard_index(key);
        self.guards[index].1.write_days(key, days);
    }
}

fn usage_key(charge: &Charge) -> RowKey {
    RowKey::new(charge.subject, charge.limit.grants_row())
}

//! The shards of one check or correction, locked in ascending order, which excludes deadlocks.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::row::RowKey;
use super::shard::Shard;
use super::{Inner, lock};
use crate::algorithm::Row;
use crate::judge::Rows;
use crate::judge::reservation::{
    KeptReservation, NumberedRows, ReservationNumbers, ReservationRows,
};
use crate::judge::usage::{self, UsageDays, UsageRows};
use crate::limit::{Charge, ReservationName, RowId, Subject};
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
        Self::lock_shards(memory, charges.iter().flat_map(usage_keys))
    }

    /// Locks what [`LockedRows::lock_usage`] does, and a reservation.
    pub(super) fn lock_reservation(
        memory: &'m Inner,
        name: ReservationName,
        charges: &[Charge],
    ) -> Self {
        let keys = charges.iter().flat_map(usage_keys).chain([RowKey::from_reservation(name)]);
        Self::lock_shards(memory, keys)
    }

    fn lock_shards(memory: &'m Inner, keys: impl Iterator<Item = RowKey>) -> Self {
        let mut places: SmallVec<[usize; 3]> = keys.map(|key| memory.shard_index(key)).collect();
        places.sort_unstable();
        places.dedup();
        let guards = places.into_iter().map(|place| (place, lock(&memory.shards[place]))).collect();
        Self { memory, guards }
    }

    /// The number of a decision, larger than those of all before it on the same rows. A count of the
    /// whole store would move its cache line between cores with each check.
    pub(super) fn next_index(&mut self) -> u64 {
        let last = self.guards.iter().map(|(_, shard)| shard.last_index).max();
        let next = last.unwrap_or_default() + 1;
        self.guards.iter_mut().for_each(|(_, shard)| shard.last_index = next);
        next
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
        if self.guards[index].1.write(key, &row, until) {
            self.memory.rows.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn annex(&self, charge: &Charge) -> Vec<u8> {
        let key = RowKey::from_charge(charge);
        self.guards[self.guard_index(key)].1.reservations.annex(key)
    }

    fn write_annex(&mut self, charge: &Charge, annex: Vec<u8>, until: Option<Micros>) {
        let key = RowKey::from_charge(charge);
        let index = self.guard_index(key);
        self.guards[index].1.reservations.write_annex(key, annex, until);
    }

    fn refuses(&self, subject: Subject, charges: &[Charge]) -> bool {
        let mut own = charges.iter().filter(|charge| charge.subject == subject);
        self.memory.is_full() && own.all(|charge| self.read(charge).is_none())
    }
}

impl NumberedRows for LockedRows<'_> {
    fn numbers(&self, subject: Subject) -> Option<ReservationNumbers> {
        let key = RowKey::new(subject, RowId::RESERVATION_NUMBERS);
        self.guards[self.guard_index(key)].1.reservations.numbers(key)
    }
}

impl ReservationRows for LockedRows<'_> {
    type Name = ReservationName;

    fn write_numbers(&mut self, subject: Subject, numbers: ReservationNumbers) {
        let key = RowKey::new(subject, RowId::RESERVATION_NUMBERS);
        let index = self.guard_index(key);
        self.guards[index].1.reservations.write_numbers(key, numbers);
    }

    fn reservation(&self, name: ReservationName) -> Option<KeptReservation> {
        let key = RowKey::from_reservation(name);
        self.guards[self.guard_index(key)].1.reservations.reservation(key)
    }

    fn write_reservation(&mut self, name: ReservationName, kept: Option<KeptReservation>) {
        let key = RowKey::from_reservation(name);
        let index = self.guard_index(key);
        self.guards[index].1.reservations.write_reservation(key, kept);
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

/// The keys of a charge's row, of its days, of the quota reported with those, and of its subject's
/// reservation numbers.
fn usage_keys(charge: &Charge) -> impl Iterator<Item = RowKey> {
    let (limit, subject) = (&charge.limit, charge.subject);
    let quota = limit.reported_quota().map(|quota| quota.row());
    let rows = [Some(limit.row()), limit.counterpart_row(), limit.usage_row(), quota];
    let rows = rows.into_iter().flatten().chain([RowId::RESERVATION_NUMBERS]);
    rows.map(move |row| RowKey::new(subject, row))
}

fn usage_key(charge: &Charge) -> RowKey {
    RowKey::new(charge.subject, charge.limit.grants_row())
}

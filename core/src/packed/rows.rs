//! The rows of all subjects of a call and its reservations, as judging reads and writes them.

use std::cell::Cell;

use super::charge::PackedCharge;
use super::damage::Damage;
use super::reservation::ReservationString;
use super::subject::SubjectString;
use crate::algorithm::Row;
use crate::judge::Rows;
use crate::judge::reservation::{
    KeptReservation, NumberedRows, ReservationNumbers, ReservationRows,
};
use crate::time::Micros;

/// The strings of a call. Reading damage yields nothing and is remembered: its check fails then.
pub(super) struct CallRows<'s> {
    subjects: &'s mut [SubjectString],
    reservations: &'s mut [ReservationString],
    now: Micros,
    damage: Cell<Option<Damage>>,
}

impl<'s> CallRows<'s> {
    pub(super) fn new(
        subjects: &'s mut [SubjectString],
        reservations: &'s mut [ReservationString],
        now: Micros,
    ) -> Self {
        Self { subjects, reservations, now, damage: Cell::new(None) }
    }

    /// The first damage that was met since the last call.
    pub(super) fn take_damage(&self) -> Option<Damage> {
        self.damage.take()
    }

    /// What was read; nothing if it is damaged.
    fn readable<T>(&self, read: Result<Option<T>, Damage>) -> Option<T> {
        read.unwrap_or_else(|damage| {
            self.damage.set(self.damage.take().or(Some(damage)));
            None
        })
    }
}

impl<'l> Rows<PackedCharge<'l>> for CallRows<'_> {
    fn read(&self, charge: &PackedCharge<'l>) -> Option<Row> {
        self.readable(self.subjects[charge.key].row(charge.limit, self.now))
    }

    fn write(&mut self, charge: &PackedCharge<'l>, row: Row, until: Micros) {
        self.subjects[charge.key].write_row(charge.limit.id, row.body(), until);
    }

    fn annex(&self, charge: &PackedCharge<'l>) -> Vec<u8> {
        self.subjects[charge.key].annex(charge.limit.id)
    }

    /// The key's deadline is that of the counters and numbers.
    fn write_annex(&mut self, charge: &PackedCharge<'l>, annex: Vec<u8>, _until: Option<Micros>) {
        self.subjects[charge.key].write_annex(charge.limit.id, &annex);
    }

    fn refuses(&self, subject: usize, _charges: &[PackedCharge<'l>]) -> bool {
        self.subjects[subject].is_missing()
    }
}

impl NumberedRows<PackedCharge<'_>> for CallRows<'_> {
    fn numbers(&self, subject: usize) -> Option<ReservationNumbers> {
        self.readable(self.subjects[subject].numbers())
    }
}

/// A reservation is named by the place of its key among those of reservations.
impl ReservationRows<PackedCharge<'_>> for CallRows<'_> {
    type Name = usize;

    fn write_numbers(&mut self, subject: usize, numbers: ReservationNumbers) {
        self.subjects[subject].write_numbers(numbers);
    }

    fn reservation(&self, name: usize) -> Option<KeptReservation> {
        self.readable(self.reservations[name].read(self.now))
    }

    fn write_reservation(&mut self, name: usize, kept: Option<KeptReservation>) {
        self.reservations[name].write(kept.as_ref(), self.now);
    }
}

//! The rows of all subjects of a call, as judging reads and writes them.

use std::cell::Cell;

use super::charge::PackedCharge;
use super::damage::Damage;
use super::subject::SubjectString;
use crate::algorithm::Row;
use crate::judge::Rows;
use crate::time::Micros;

/// The subjects of a call. Reading a damaged row yields none and is remembered: its check fails then.
pub(super) struct CallRows<'s> {
    subjects: &'s mut [SubjectString],
    now: Micros,
    damage: Cell<Option<Damage>>,
}

impl<'s> CallRows<'s> {
    pub(super) fn new(subjects: &'s mut [SubjectString], now: Micros) -> Self {
        Self { subjects, now, damage: Cell::new(None) }
    }

    /// The first damage that was met since the last call.
    pub(super) fn take_damage(&self) -> Option<Damage> {
        self.damage.take()
    }
}

impl<'l> Rows<PackedCharge<'l>> for CallRows<'_> {
    fn read(&self, charge: &PackedCharge<'l>) -> Option<Row> {
        self.subjects[charge.key].row(charge.limit, self.now).unwrap_or_else(|damage| {
            self.damage.set(self.damage.take().or(Some(damage)));
            None
        })
    }

    fn write(&mut self, charge: &PackedCharge<'l>, row: Row, until: Micros) {
        self.subjects[charge.key].write_row(charge.limit.id, &row, until);
    }

    fn annex(&self, charge: &PackedCharge<'l>) -> Vec<u8> {
        self.subjects[charge.key].annex(charge.limit.id)
    }

    fn write_annex(&mut self, charge: &PackedCharge<'l>, annex: Vec<u8>, _until: Option<Micros>) {
        self.subjects[charge.key].write_annex(charge.limit.id, &annex);
    }

    fn refuses(&self, subject: usize, _charges: &[PackedCharge<'l>]) -> bool {
        self.subjects[subject].is_missing()
    }
}

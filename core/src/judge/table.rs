//! Rows and days in plain maps that never forget: for replays of recorded histories, and for tests.
//!
//! Not a store: no clock, no expiry, no locks.

use foldhash::HashMap;

use super::Rows;
use super::reservation::{KeptReservation, NumberedRows, ReservationNumbers, ReservationRows};
use super::usage::{UsageDays, UsageRows};
use crate::algorithm::Row;
use crate::limit::{Charge, CounterId, ReservationName, Subject};
use crate::time::Micros;

/// Rows that are never forgotten.
#[derive(Clone, Debug, Default)]
pub struct RowTable {
    rows: HashMap<CounterId, Row>,
    days: HashMap<CounterId, UsageDays>,
    annexes: HashMap<CounterId, Vec<u8>>,
    numbers: HashMap<Subject, ReservationNumbers>,
    reservations: HashMap<ReservationName, KeptReservation>,
}

impl RowTable {
    /// Forgets everything of a subject, as a store does that has lost it. Reservations stay.
    pub fn forget(&mut self, subject: Subject) {
        let is_other = |counter: &CounterId| counter.subject() != subject.digest();
        self.rows.retain(|counter, _| is_other(counter));
        self.annexes.retain(|counter, _| is_other(counter));
        self.numbers.remove(&subject);
    }
}

impl Rows for RowTable {
    fn read(&self, charge: &Charge) -> Option<Row> {
        self.rows.get(&charge.counter()).cloned()
    }

    fn write(&mut self, charge: &Charge, row: Row, _until: Micros) {
        self.rows.insert(charge.counter(), row);
    }

    fn annex(&self, charge: &Charge) -> Vec<u8> {
        self.annexes.get(&charge.counter()).cloned().unwrap_or_default()
    }

    fn write_annex(&mut self, charge: &Charge, annex: Vec<u8>, _until: Option<Micros>) {
        if annex.is_empty() {
            self.annexes.remove(&charge.counter());
        } else {
            self.annexes.insert(charge.counter(), annex);
        }
    }

    fn refuses(&self, _subject: Subject, _charges: &[Charge]) -> bool {
        false
    }
}

impl NumberedRows for RowTable {
    fn numbers(&self, subject: Subject) -> Option<ReservationNumbers> {
        self.numbers.get(&subject).copied()
    }
}

impl ReservationRows for RowTable {
    type Name = ReservationName;

    fn write_numbers(&mut self, subject: Subject, numbers: ReservationNumbers) {
        self.numbers.insert(subject, numbers);
    }

    fn reservation(&self, name: ReservationName) -> Option<KeptReservation> {
        self.reservations.get(&name).cloned()
    }

    fn write_reservation(&mut self, name: ReservationName, kept: Option<KeptReservation>) {
        match kept {
            Some(kept) => self.reservations.insert(name, kept),
            None => self.reservations.remove(&name),
        };
    }
}

impl UsageRows for RowTable {
    fn days(&self, charge: &Charge) -> UsageDays {
        self.days.get(&days_of(charge)).cloned().unwrap_or_default()
    }

    fn write_days(&mut self, charge: &Charge, days: UsageDays) {
        self.days.insert(days_of(charge), days);
    }
}

fn days_of(charge: &Charge) -> CounterId {
    CounterId::new(charge.subject, charge.limit.grants_row())
}

//! Rows and days in plain maps that never forget: for replays of recorded histories, and for tests.
//!
//! Not a store: no clock, no expiry, no locks.

use foldhash::HashMap;

use super::Rows;
use super::usage::{UsageDays, UsageRows};
use crate::algorithm::Row;
use crate::limit::{Charge, CounterId};
use crate::time::Micros;

/// Rows that are never forgotten.
#[derive(Clone, Debug, Default)]
pub struct RowTable {
    rows: HashMap<CounterId, Row>,
    days: HashMap<CounterId, UsageDays>,
}

impl Rows for RowTable {
    fn read(&self, charge: &Charge) -> Option<Row> {
        self.rows.get(&charge.counter()).cloned()
    }

    fn write(&mut self, charge: &Charge, row: Row, _until: Micros) {
        self.rows.insert(charge.counter(), row);
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

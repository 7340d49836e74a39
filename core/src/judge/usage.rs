//! Usage by day: a day is kept when it is over, and operators correct counters. Twin of
//! `lua/usage.lua`; change them together.
//!
//! The first charge of a day replaces the row of the day before, so that day is kept first:
//! together with the charge or with a correction, not at midnight. Keys that are not in use cost
//! nothing. The report of days is the control plane's.

use serde::{Deserialize, Serialize};

use super::{NotJudged, NumberedRows, write};
use crate::algorithm::calendar_quota::{Count, first_day};
use crate::algorithm::{Correction, CounterState, Counting as _, Reserving as _, Windows};
#[cfg(doc)]
use crate::limit::Limit;
use crate::limit::{Charge, USAGE_RETENTION_DAYS};
use crate::time::Micros;

/// A day that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageDay {
    /// Days since 1970.
    pub day: u64,
    /// Units used.
    pub used: i64,
    /// Units left of the quota at the end of the day; `None` if there was no quota.
    #[serde(rename = "left")]
    pub remaining: Option<i64>,
}

/// The days of a subject under one plan and in one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageDays {
    /// The days that are over, in the order in which they were kept; a day may occur in parts.
    #[serde(rename = "over")]
    pub past: Vec<UsageDay>,
    /// The first day of a window that is not over, and the units granted in it: the counter's row
    /// shows that much less than was used.
    pub granted: Option<(u64, i64)>,
}

/// The rows and days of a store, locked by the caller.
pub trait UsageRows: NumberedRows {
    /// The days of a charge's subject that are kept under its limit's [`Limit::grants_row`].
    fn days(&self, charge: &Charge) -> UsageDays;
    /// Replaces them.
    fn write_days(&mut self, charge: &Charge, days: UsageDays);
}

impl UsageDays {
    /// The units granted in the window that begins on this day and is not over.
    #[must_use]
    pub fn granted_on(&self, day: u64) -> i64 {
        self.granted.filter(|granted| granted.0 == day).map_or(0, |granted| granted.1)
    }

    /// True if any of it lies within the retention, in whatever time zone.
    #[must_use]
    pub fn is_reportable(&self, now: Micros) -> bool {
        let oldest = (now.get() / 86_400_000_000).saturating_sub(USAGE_RETENTION_DAYS + 1);
        let last = self.past.last().map(|day| day.day);
        last.max(self.granted.map(|granted| granted.0)).is_some_and(|last| last >= oldest)
    }

    /// Drops days older than the retention as of the day `today`.
    fn drop_expired(&mut self, today: u64) {
        let oldest = today.saturating_sub(USAGE_RETENTION_DAYS);
        self.past.retain(|day| day.day >= oldest);
        self.granted = self.granted.filter(|granted| granted.0 >= oldest);
    }
}

/// Keeps the day of a charge's limit if it is over.
///
/// # Errors
/// If `now` lies outside the offered windows.
pub fn close_day(
    charge: &Charge,
    offered: Option<&Windows>,
    now: Micros,
    rows: &mut impl UsageRows,
) -> Result<(), NotJudged> {
    let row = rows.read(charge);
    let reading = charge.limit.algorithm().read((row.as_ref(), &[]), offered, now)?;
    let Some(count) = row.as_ref().and_then(Count::from_row).filter(|_| reading.is_rollover) else {
        return Ok(());
    };
    // The quota has not been charged since that day: both are charged together.
    let remaining = charge.limit.reported_quota().map(|quota| {
        let quota_charge = Charge { limit: quota.clone(), ..*charge };
        let used = rows.read(&quota_charge).as_ref().and_then(Count::from_row);
        quota.size().cast_signed() - used.map_or(0, |count| count.used)
    });
    let (day, mut days) = (first_day(count.window), rows.days(charge));
    let used = count.used + days.granted_on(day);
    days.granted = days.granted.filter(|granted| granted.0 != day);
    days.drop_expired(first_day(reading.state.window));
    days.past.push(UsageDay { day, used, remaining });
    rows.write_days(charge, days);
    // Written as empty, not removed: if the clock steps back, the current window must not begin a
    // second time.
    let state = CounterState { level: 0, ..reading.state };
    write(charge, row.as_ref(), reading.state.level, state, offered, now, rows);
    Ok(())
}

/// Corrects a counter whose day is not over.
///
/// # Errors
/// If `now` lies outside the offered windows.
pub fn apply_correction(
    charge: &Charge,
    correction: Correction,
    offered: Option<&Windows>,
    now: Micros,
    rows: &mut impl UsageRows,
) -> Result<(), NotJudged> {
    let row = rows.read(charge);
    let mut days = rows.days(charge);
    let granted = |day| days.granted_on(day);
    let algorithm = charge.limit.algorithm();
    let Some(corrected) = algorithm.correct(row.as_ref(), correction, granted, offered, now)?
    else {
        return Ok(());
    };
    if let Some((day, units)) = corrected.granted {
        let granted = days.granted_on(day) + units;
        days.drop_expired(day);
        days.granted = Some((day, granted));
        rows.write_days(charge, days);
    }
    let (row, until) = corrected.written;
    rows.write(charge, row, until + charge.limit.retention());
    if let Some(numbers) = rows.numbers(charge.subject).filter(|numbers| numbers.until >= now)
        && let Some(annex) = algorithm.correct_annex(correction, numbers.last)
    {
        rows.write_annex(charge, annex, Some(numbers.until));
    }
    Ok(())
}
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::{RowTable, Rows as _};
    use super::*;
    use crate::algorithm::{Calendar, Period, Quota};
    use crate::limit::{Limit, Subject, Unit};

    /// A peek at a quota of 100 units, of a day with its days kept or of a month.
    fn peek(daily: bool) -> Charge {
        let period = if daily { Period::Day } else { Period::Month(1) };
        let calendar = Arc::new(Calendar::new(period, "UTC").unwrap());
        let algorithm = Quota { limit: 100, calendar };
        let mut limit = Limit::new("p/quota", Unit::requests(), algorithm, false);
        if daily {
            limit.track_days("p");
        }
        Charge::new(Subject::api_key("k"), Arc::new(limit), 0)
    }

    proptest! {
        #[test]
        fn a_refund_gives_back_what_was_used_and_no_more_whatever_was_granted(
            daily: bool,
            used in 0_u64..=100,
            steps in prop::collection::vec((any::<bool>(), 1_u64..1_000), 1..20),
        ) {
            let (peek, now) = (peek(daily), Micros::from_secs(1_800_000_000));
            let windows = peek.limit.calendar().unwrap().windows(now);
            let mut table = RowTable::default();
            let charge = Charge { cost: used, ..peek.clone() };
            crate::judge::judge(&[charge], &[Some(windows)], now, &mut table).unwrap();
            let (mut actual, mut left) = (used, 100 - used);
            for (grant, amount) in steps {
                let (what, more) = if grant {
                    (Correction::Grant(amount), amount)
                } else {
                    let unused = amount.min(actual);
                    actual -= unused;
                    (Correction::Refund(amount), unused)
                };
                left += more;
                apply_correction(&peek, what, Some(&windows), now, &mut table).unwrap();
                let row = table.read(&peek).as_ref().and_then(Count::from_row).unwrap();
                prop_assert_eq!(row.used, 100 - left.cast_signed());
            }
        }
    }
}

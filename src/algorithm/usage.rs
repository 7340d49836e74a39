//! Days that are over: what each came to, kept while it can be told; and corrections by operators.
//! Twin of `lua/usage.lua`; change them together.
//!
//! A count by days is written over by the next day's first charge, so the day before is taken out
//! first. It happens with that charge or with a correction, not at midnight: nobody looks at keys
//! that nobody uses. What days mean to whoever reads them is for the control plane.

use serde::{Deserialize, Serialize};

use super::{NotJudged, Row, Rows, calendar_quota, token_bucket, updated_row};
use crate::algorithm::CounterState;
use crate::algorithm::calendar_quota::Count;
#[cfg(doc)]
use crate::limit::Limit;
use crate::limit::{Algorithm, Charge, USAGE_RETENTION_DAYS, WindowStart, Windows};
use crate::time::Micros;

/// The most that a correction makes of a count, up or down: sums with it stay exact in doubles.
const MAX_CORRECTED_COUNT: i64 = 1 << 52;

/// A day that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageDay {
    /// Which, in days since 1970.
    pub day: u64,
    /// Units used.
    pub used: i64,
    /// What was left of the quota when it ended; `None` where there was none.
    #[serde(rename = "left")]
    pub remaining: Option<i64>,
}

/// The days of a subject by one plan and in one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageDays {
    /// Those that are over, in the order in which they were kept; one may be there in parts.
    #[serde(rename = "over")]
    pub past: Vec<UsageDay>,
    /// The first day of a window that is not over, and what was granted in it: so much more was used
    /// than its row says.
    pub granted: Option<(u64, i64)>,
}

/// What an operator wants of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// Of a quota so much is left from now on.
    SetRemaining(u64),
    /// Of a quota so much more is left.
    Grant(u64),
    /// So much of what was counted was not used.
    Refund(u64),
    /// A quota is whole again, a bucket empty.
    Reset,
}

/// Where rows and days are kept, under the guard of whoever calls.
pub trait UsageRows: Rows {
    /// The days of a charge's subject that are kept under its limit's [`Limit::grants_row`].
    fn days(&self, charge: &Charge) -> UsageDays;
    /// Replaces them.
    fn write_days(&mut self, charge: &Charge, days: UsageDays);
}

/// The day of the window that starts so.
#[must_use]
pub fn day_of(start: WindowStart) -> u64 {
    start.get() / 86_400
}

/// Whether a charge would be written over a day that has to be kept.
pub(super) fn is_rollover(charge: &Charge, row: Option<Row>, current: WindowStart) -> bool {
    charge.limit.tracks_days() && row.and_then(Row::count).is_some_and(|row| row.window < current)
}

impl UsageDays {
    /// What was granted in the window that is not over and begins on this day.
    #[must_use]
    pub fn granted_on(&self, day: u64) -> i64 {
        self.granted.filter(|granted| granted.0 == day).map_or(0, |granted| granted.1)
    }

    /// Whether any of it can still be told, in whatever time zone.
    #[must_use]
    pub fn is_reportable(&self, now: Micros) -> bool {
        let oldest = (now.get() / 86_400_000_000).saturating_sub(USAGE_RETENTION_DAYS + 1);
        let last = self.past.last().map(|day| day.day);
        last.max(self.granted.map(|granted| granted.0)).is_some_and(|last| last >= oldest)
    }

    /// Forgets what is too old to be told on the day `today`.
    fn drop_expired(&mut self, today: u64) {
        let oldest = today.saturating_sub(USAGE_RETENTION_DAYS);
        self.past.retain(|day| day.day >= oldest);
        self.granted = self.granted.filter(|granted| granted.0 >= oldest);
    }
}

/// Keeps the day of a charge's limit if it is over.
///
/// # Errors
/// Where `now` lies outside the windows on offer.
pub fn close_day(
    charge: &Charge,
    windows: &Windows,
    now: Micros,
    rows: &mut impl UsageRows,
) -> Result<(), NotJudged> {
    let (current, _) = windows.window_at(now).ok_or(NotJudged::WindowMiss)?;
    let row = rows.read(charge);
    let Some(count) = row.and_then(Row::count).filter(|_| is_rollover(charge, row, current)) else {
        return Ok(());
    };
    // Nobody has charged the quota since that day: they are charged together.
    let remaining = charge.limit.reported_quota().map(|quota| {
        let of_quota = Charge { limit: quota.clone(), ..*charge };
        let used = rows.read(&of_quota).and_then(Row::count).map_or(0, |count| count.used);
        quota.size().cast_signed() - used
    });
    let (day, mut days) = (day_of(count.window), rows.days(charge));
    let used = count.used + days.granted_on(day);
    days.granted = days.granted.filter(|granted| granted.0 != day);
    days.drop_expired(day_of(current));
    days.past.push(UsageDay { day, used, remaining });
    rows.write_days(charge, days);
    // Not removed: the window that counts must not begin a second time if the clock steps back.
    let state = CounterState { level: 0, window: current };
    let (row, until) = updated_row(charge, row, Some(windows), state, now);
    rows.write(charge, row, until);
    Ok(())
}

/// Corrects a counter whose day is not over.
///
/// # Errors
/// Where `now` lies outside the windows on offer.
pub fn apply_correction(
    charge: &Charge,
    correction: Correction,
    windows: Option<&Windows>,
    now: Micros,
    rows: &mut impl UsageRows,
) -> Result<(), NotJudged> {
    let row = rows.read(charge);
    if let (Algorithm::TokenBucket(throttle), Some(Row::Bucket(_))) =
        (charge.limit.algorithm(), row)
        && correction == Correction::Reset
    {
        // As by another rate: what was charged before gives nothing back any more.
        let rate_since = now.get() / token_bucket::TICK_MICROS + 1;
        let fresh = token_bucket::updated(None, 0, throttle, now);
        rows.write(charge, Row::Bucket(token_bucket::Bucket { rate_since, ..fresh }), now);
    }
    let Some(windows) = windows else { return Ok(()) };
    let (current, _) = windows.window_at(now).ok_or(NotJudged::WindowMiss)?;
    let Count { used, window } = calendar_quota::current_count(row.and_then(Row::count), current);
    let day = day_of(window);
    let granted = rows.days(charge).granted_on(day);
    let after = match correction {
        Correction::SetRemaining(left) => charge.limit.size().cast_signed() - left.cast_signed(),
        Correction::Grant(more) => used.saturating_sub_unsigned(more),
        Correction::Refund(unused) => used - unused.cast_signed().min((used + granted).max(0)),
        Correction::Reset => 0,
    };
    let after = after.clamp(-MAX_CORRECTED_COUNT, MAX_CORRECTED_COUNT);
    if after != used && !matches!(correction, Correction::Refund(_)) {
        let mut days = rows.days(charge);
        days.drop_expired(day);
        days.granted = Some((day, granted + used - after));
        rows.write_days(charge, days);
    }
    let (row, until) =
        updated_row(charge, row, Some(windows), CounterState { level: after, window }, now);
    rows.write(charge, row, until);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::limit::{Calendar, Limit, Period, Quota, RowId, Subject, Unit};

    #[derive(Default)]
    struct Table {
        rows: HashMap<RowId, Row>,
        days: HashMap<RowId, UsageDays>,
    }

    impl Rows for Table {
        fn read(&self, charge: &Charge) -> Option<Row> {
            self.rows.get(&charge.limit.row()).copied()
        }

        fn write(&mut self, charge: &Charge, row: Row, _until: Micros) {
            self.rows.insert(charge.limit.row(), row);
        }
    }

    impl UsageRows for Table {
        fn days(&self, charge: &Charge) -> UsageDays {
            self.days.get(&charge.limit.grants_row()).cloned().unwrap_or_default()
        }

        fn write_days(&mut self, charge: &Charge, days: UsageDays) {
            self.days.insert(charge.limit.grants_row(), days);
        }
    }

    /// A look at a quota of 100 units, of a day with its days kept or of a month.
    fn look(daily: bool) -> Charge {
        let period = if daily { Period::Day } else { Period::Month(1) };
        let calendar = Arc::new(Calendar::new(period, "UTC").unwrap());
        let algorithm = Algorithm::CalendarQuota(Quota { limit: 100, calendar });
        let mut limit = Limit::new("p/quota", Unit::requests(), algorithm, false);
        if daily {
            limit.track_days("p");
        }
        Charge { subject: Subject::api_key("k"), limit: Arc::new(limit), cost: 0 }
    }

    proptest! {
        #[test]
        fn a_refund_gives_back_what_was_used_and_no_more_whatever_was_granted(
            daily: bool,
            used in 0_u64..=100,
            steps in prop::collection::vec((any::<bool>(), 1_u64..1_000), 1..20),
        ) {
            let (look, now) = (look(daily), Micros::from_secs(1_800_000_000));
            let Algorithm::CalendarQuota(quota) = look.limit.algorithm() else { unreachable!() };
            let windows = quota.calendar.windows(now);
            let mut table = Table::default();
            let charge = Charge { cost: used, ..look.clone() };
            crate::algorithm::judge(&[charge], &[Some(windows)], now, &mut table).unwrap();
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
                apply_correction(&look, what, Some(&windows), now, &mut table).unwrap();
                let row = table.read(&look).and_then(Row::count).unwrap();
                prop_assert_eq!(row.used, 100 - left.cast_signed());
            }
        }
    }
}

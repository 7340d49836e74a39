//! The calendar quota: the units used in the current window. Twin of `lua/calendar_quota.lua`;
//! change them together.
//!
//! The node offers windows around its estimate of the store's clock and the store chooses the
//! current one; turning instants into windows is [`Calendar`]'s.

use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::civil::Weekday;
use serde::{Deserialize, Serialize};

use super::reserving::number_in;
use super::{
    AdjustedCounter, Calendar, ChargeChange, ChargeTime, Corrected, Correction, CounterState,
    Counting, Forecast, NewCharge, Period, Reading, ReservedCharge, Reserving, Row, RowKind,
    StoredCounter, WindowMiss, WindowStart, Windows, Written, encode_double,
};
use crate::time::{MAX_EXACT, Micros};

/// The largest count that a correction results in, in either direction: sums with it stay exact in
/// doubles.
pub const MAX_CORRECTED: i64 = 1 << 52;

/// A number of units per calendar window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RecordedQuota", into = "RecordedQuota")]
pub struct Quota {
    /// Units per window, 1 to 2^53 - 1.
    pub limit: u64,
    /// The windows.
    pub calendar: Arc<Calendar>,
}

/// A quota's row: the units used in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Units used; below 0 if more than the limit is left.
    pub used: i64,
    /// The window.
    pub window: WindowStart,
}

impl Count {
    /// The count in a row; `None` in a row of another kind.
    #[must_use]
    pub fn from_row(row: &Row) -> Option<Self> {
        (row.kind() == RowKind::CALENDAR_QUOTA).then(|| Self {
            used: row.signed::<7>(0),
            window: WindowStart::new(row.number::<5>(7)),
        })
    }

    /// The state of a counter with this count.
    pub(crate) fn state(self) -> CounterState {
        CounterState::in_window(self.used, self.window)
    }

    pub(crate) fn to_row(self) -> Row {
        let row = Row::empty(RowKind::CALENDAR_QUOTA);
        row.with::<7>(self.used.cast_unsigned()).with::<5>(self.window.get())
    }

    /// The count in a row after units that were charged in a window are refunded; `None` in a row
    /// of another one. The room grows no larger than it was before the first charge, or than a grant
    /// has made it.
    pub(crate) fn refunded(row: &Row, amount: u64, window: WindowStart) -> Option<Self> {
        let count = Self::from_row(row).filter(|count| count.window == window)?;
        let used = count.used.saturating_sub_unsigned(amount).max(count.used.min(0));
        Some(Self { used, ..count })
    }
}

/// The first day of a window, in days since 1970.
#[must_use]
pub fn first_day(window: WindowStart) -> u64 {
    window.get() / 86_400
}

/// The count while `current` is the window at the store's clock.
///
/// A window that begins leaves the old count behind. A stored window that is later stays in force
/// until the clock reaches it; otherwise a clock that stepped back would open the old window a
/// second time.
fn current_count(count: Option<Count>, current: WindowStart) -> Count {
    match count {
        Some(count) if count.window >= current => count,
        _ => Count { used: 0, window: current },
    }
}

/// The quota's counter at `now`.
///
/// # Errors
/// If `now` lies outside the offered windows.
pub(crate) fn read(
    row: Option<&Row>,
    offered: Option<&Windows>,
    now: Micros,
) -> Result<Reading, WindowMiss> {
    let (current, _) = offered_at(offered, now)?;
    let stored = row.and_then(Count::from_row);
    let count = current_count(stored, current);
    Ok(Reading {
        state: count.state(),
        is_ahead: false,
        is_rollover: stored.is_some_and(|stored| stored.window < current),
    })
}

/// The count after a charge of a reservation.
pub(crate) fn reserve(state: CounterState, amount: u64) -> Count {
    let used = state.level.saturating_add_unsigned(amount).min(MAX_EXACT.cast_signed());
    Count { used, window: state.window }
}

/// The annex after a charge of the reservation of this number. A later number in it belongs to an
/// earlier life of the subject's numbers.
pub(crate) fn reserved_annex(annex: &[u8], number: u64) -> Vec<u8> {
    if number_in(annex) < number { annex.into() } else { Vec::new() }
}

/// The count after a charge of a reservation has changed, and true if the count has. Within the
/// window charged it follows exactly. In a later one nothing goes back, and what was used beyond the
/// charge counts there.
///
/// # Errors
/// If `now` lies outside the offered windows.
pub(crate) fn adjust(
    (before, annex): StoredCounter<'_>,
    charged: &ReservedCharge,
    units: u64,
    offered: Option<&Windows>,
    now: Micros,
) -> Result<(Count, bool), WindowMiss> {
    let (current, _) = offered_at(offered, now)?;
    let stored = before.and_then(Count::from_row);
    let count = current_count(stored, current);
    let [from, to] = [charged.units, units].map(|units| units.min(MAX_EXACT).cast_signed());
    let is_exact = stored.is_some_and(|stored| stored.window == charged.window)
        && count.window == charged.window
        && charged.number.is_some_and(|number| number > number_in(annex));
    let more = if is_exact { to - from } else { (to - from).max(0) };
    let used = (count.used + more).min(MAX_EXACT.cast_signed());
    Ok((Count { used, ..count }, more != 0))
}

/// The window offered for `now`, with the instant of its end.
pub(crate) fn offered_at(
    offered: Option<&Windows>,
    now: Micros,
) -> Result<(WindowStart, Micros), WindowMiss> {
    offered.and_then(|windows| windows.window_at(now)).ok_or(WindowMiss)
}

impl Counting for Quota {
    fn row_kind(&self) -> RowKind {
        RowKind::CALENDAR_QUOTA
    }

    fn capacity(&self) -> u64 {
        self.limit
    }

    fn size(&self) -> u64 {
        self.limit
    }

    fn amount(&self, cost: u64) -> u64 {
        cost.min(MAX_EXACT)
    }

    /// The nominal length of a window: a month's is 30 days.
    fn window(&self) -> Micros {
        Micros::from_secs(match self.calendar.period() {
            Period::Seconds(seconds) => u64::from(seconds.get()),
            Period::Day => 86_400,
            Period::Week(_) => 7 * 86_400,
            Period::Month(_) => 30 * 86_400,
        })
    }

    fn identity(&self) -> Vec<Vec<u8>> {
        let period = match self.calendar.period() {
            Period::Seconds(seconds) => [&b"s"[..], &seconds.get().to_le_bytes()].concat(),
            Period::Day => vec![b'd', 0],
            Period::Week(start) => vec![b'w', start.to_monday_one_offset().cast_unsigned()],
            Period::Month(start) => vec![b'm', start.cast_unsigned()],
        };
        vec![b"quota".to_vec(), period, self.calendar.zone_name().as_bytes().to_vec()]
    }

    fn per_node_share(&self, nodes: u64) -> Self {
        let limit = (self.limit / nodes.max(1)).max(self.limit.min(1));
        Self { limit, calendar: Arc::clone(&self.calendar) }
    }

    fn calendar(&self) -> Option<&Calendar> {
        Some(&self.calendar)
    }

    fn read(
        &self,
        (row, _): StoredCounter<'_>,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<Reading, WindowMiss> {
        read(row, offered, now)
    }

    fn write(
        &self,
        _: Option<&Row>,
        state: CounterState,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Written {
        let end = match offered_at(offered, now) {
            Ok((window, end)) if window == state.window => end,
            _ => self.calendar.end_of(state.window),
        };
        (Count { used: state.level, window: state.window }.to_row(), end)
    }

    /// Refunds units within the window they were charged in.
    fn refund(&self, row: &Row, amount: u64, charged: ChargeTime, _: Micros) -> Option<Written> {
        let count = Count::refunded(row, amount, charged.window)?;
        Some((count.to_row(), self.calendar.end_of(count.window)))
    }

    fn correct(
        &self,
        row: Option<&Row>,
        correction: Correction,
        granted: impl Fn(u64) -> i64,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<Option<Corrected>, WindowMiss> {
        let state = self.read((row, &[]), offered, now)?.state;
        let (used, day) = (state.level, first_day(state.window));
        let after = match correction {
            Correction::SetRemaining(left) => self.limit.cast_signed() - left.cast_signed(),
            Correction::Grant(units) => used.saturating_sub_unsigned(units),
            Correction::Refund(units) => {
                used - units.cast_signed().min((used + granted(day)).max(0))
            }
            Correction::Reset => 0,
        };
        let after = after.clamp(-MAX_CORRECTED, MAX_CORRECTED);
        let is_grant = after != used && !matches!(correction, Correction::Refund(_));
        Ok(Some(Corrected {
            written: self.write(row, CounterState { level: after, ..state }, offered, now),
            granted: is_grant.then_some((day, used - after)),
        }))
    }

    fn forecast(&self, before: CounterState, level: i64, _: u64, now: Micros) -> Forecast {
        let rest = self.calendar.end_of(before.window).since(now);
        let left = self.limit.cast_signed().saturating_sub(level);
        let remaining = u64::try_from(left).unwrap_or(0);
        Forecast { remaining, reset: rest, wait: rest, next_unit: rest }
    }

    fn script_charge_time(&self, charged: ChargeTime) -> u64 {
        charged.window.get()
    }

    fn pack(&self, out: &mut Vec<u8>, now: Micros) {
        let windows = self.calendar.windows(now);
        out.extend_from_slice(&encode_double(self.limit));
        for bound in windows.bounds {
            out.extend_from_slice(&encode_double(bound.get()));
        }
        for start in windows.starts {
            out.extend_from_slice(&start.get().to_le_bytes()[..5]);
        }
    }
}

/// The annex is the number of the subject's newest reservation when an operator has reset the
/// quota, set what remains, or refunded units: reservations up to it give nothing back.
impl Reserving for Quota {
    fn follow(&self, annex: Vec<u8>, _: Option<&Row>, _: i64, _: &Row) -> Vec<u8> {
        annex
    }

    fn reserve(
        &self,
        (before, annex): StoredCounter<'_>,
        state: CounterState,
        charge: NewCharge,
        offered: Option<&Windows>,
        now: Micros,
    ) -> (Written, Vec<u8>) {
        let count = reserve(state, charge.amount);
        let written = self.write(before, count.state(), offered, now);
        (written, reserved_annex(annex, charge.number))
    }

    fn adjust(
        &self,
        counter: StoredCounter<'_>,
        charged: &ReservedCharge,
        change: ChargeChange,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<AdjustedCounter, WindowMiss> {
        let (count, has_changed) = adjust(counter, charged, change.units, offered, now)?;
        let state = count.state();
        let written = has_changed.then(|| self.write(counter.0, state, offered, now));
        // Written again, so that it lives as long as an extended reservation.
        Ok(AdjustedCounter { written, annex: Some(counter.1.into()), state })
    }

    fn correct_annex(&self, correction: Correction, number: u64) -> Option<Vec<u8>> {
        // A grant adds to what remains; anything else may return what reservations would give back.
        let is_grant = matches!(correction, Correction::Grant(_));
        (!is_grant).then(|| number.to_le_bytes()[..6].into())
    }
}

/// A quota as `--record` writes it.
#[derive(Serialize, Deserialize)]
struct RecordedQuota {
    limit: u64,
    period: RecordedPeriod,
    /// The weekday (1 is Monday) or the day of the month; the length of a window in seconds.
    starts_on: u32,
    time_zone: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RecordedPeriod {
    Seconds,
    Day,
    Week,
    Month,
}

impl From<Quota> for RecordedQuota {
    fn from(quota: Quota) -> Self {
        let (period, starts_on) = match quota.calendar.period() {
            Period::Seconds(seconds) => (RecordedPeriod::Seconds, seconds.get()),
            Period::Day => (RecordedPeriod::Day, 0),
            Period::Week(start) => {
                (RecordedPeriod::Week, start.to_monday_one_offset().unsigned_abs().into())
            }
            Period::Month(start) => (RecordedPeriod::Month, start.unsigned_abs().into()),
        };
        let time_zone = quota.calendar.zone_name().to_owned();
        Self { limit: quota.limit, period, starts_on, time_zone }
    }
}

impl TryFrom<RecordedQuota> for Quota {
    type Error = &'static str;

    fn try_from(recorded: RecordedQuota) -> Result<Self, Self::Error> {
        let RecordedQuota { limit, period, starts_on, time_zone } = recorded;
        let day = i8::try_from(starts_on);
        let period = match period {
            RecordedPeriod::Seconds => NonZeroU32::new(starts_on).map(Period::Seconds),
            RecordedPeriod::Day => Some(Period::Day),
            RecordedPeriod::Week => {
                day.ok().and_then(|day| Weekday::from_monday_one_offset(day).ok()).map(Period::Week)
            }
            RecordedPeriod::Month => day.ok().map(Period::Month),
        };
        let period = period.ok_or("`starts_on` does not fit the period")?;
        let calendar = Calendar::new(period, &time_zone).ok_or("there is no such time zone")?;
        Ok(Self { limit, calendar: Arc::new(calendar) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_stored_window_holds_until_the_clock_reaches_it() {
        let [monday, tuesday] = [WindowStart::new(20_000), WindowStart::new(20_001)];
        let stored = Some(Count { used: 7, window: tuesday });
        assert_eq!(current_count(stored, monday), Count { used: 7, window: tuesday });
        assert_eq!(current_count(stored, tuesday), Count { used: 7, window: tuesday });
        assert_eq!(current_count(stored, WindowStart::new(20_002)).used, 0);
        assert_eq!(current_count(None, monday), Count { used: 0, window: monday });
    }
}

//! Windows: days, weeks and months of a time zone's calendar, or fixed numbers of seconds.
//!
//! A calendar window runs from the first instant of one civil day to the first instant of another,
//! so DST changes and month ends need no special case. The store's clock selects the current
//! window: a node offers three adjacent windows and the store chooses.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::WindowStart;
use crate::time::Micros;

/// Three adjacent windows, the middle one expected to be current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Their names.
    pub starts: [WindowStart; 3],
    /// The start of each window and the end of the last, ascending.
    pub bounds: [Micros; 4],
}

impl Windows {
    /// The window that contains `now`, with the instant of its end; `None` outside all three.
    #[must_use]
    pub fn window_at(&self, now: Micros) -> Option<(WindowStart, Micros)> {
        let [first, second, third, end] = self.bounds;
        match () {
            () if now < first || now >= end => None,
            () if now < second => Some((self.starts[0], second)),
            () if now < third => Some((self.starts[1], third)),
            () => Some((self.starts[2], end)),
        }
    }
}

/// The length of a window and its first day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// A number of seconds, aligned to 1970-01-01 00:00 UTC whatever the time zone.
    Seconds(NonZeroU32),
    /// From midnight to midnight.
    Day,
    /// Seven days, starting on this weekday.
    Week(Weekday),
    /// A month, starting on this day (1-31), or on the last day of a shorter month.
    Month(i8),
}

impl Period {
    /// The first day of the window that contains `day`.
    fn first_day(self, day: Date) -> Date {
        match self {
            Self::Seconds(_) | Self::Day => day,
            Self::Week(start) => day.saturating_sub(i64::from(start.until(day.weekday())).days()),
            Self::Month(start) => {
                let this = day_in_month(day, start);
                if day >= this { this } else { day_in_month(day.saturating_sub(1.month()), start) }
            }
        }
    }

    /// The first day of the window after the one that starts on `first`.
    fn next_first_day(self, first: Date) -> Date {
        match self {
            Self::Seconds(_) | Self::Day => first.saturating_add(1.day()),
            Self::Week(_) => first.saturating_add(7.days()),
            Self::Month(start) => {
                day_in_month(first.first_of_month().saturating_add(1.month()), start)
            }
        }
    }
}

/// The `start`th of the month of `day`, or the month's last day.
fn day_in_month(day: Date, start: i8) -> Date {
    let last = day.last_of_month();
    last.with().day(start).build().unwrap_or(last)
}

/// Windows of one length, in one time zone.
pub struct Calendar {
    period: Period,
    zone: TimeZone,
    zone_name: Arc<str>,
    cached: ArcSwapOption<Windows>,
}

/// Calendars of the same windows are equal.
impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        (self.period, &self.zone_name) == (other.period, &other.zone_name)
    }
}

impl Calendar {
    /// The calendar of `zone_name`, an IANA name such as `Europe/Berlin` or `UTC`; `None` if there
    /// is no such zone.
    ///
    /// ```
    /// use tollgate_core::algorithm::{Calendar, Period};
    /// use tollgate_core::time::Micros;
    ///
    /// let days = Calendar::new(Period::Day, "Europe/Berlin").unwrap();
    /// let midnight = Micros::from_secs(1_799_967_600); // 2027-01-15 00:00 in Berlin
    /// let (start, end) = days.windows(midnight).window_at(midnight).unwrap();
    /// assert_eq!((start.get() / 86_400, end.since(midnight)), (20_833, Micros::from_secs(86_400)));
    /// ```
    #[must_use]
    pub fn new(period: Period, zone_name: &str) -> Option<Self> {
        let zone = TimeZone::get(zone_name).ok()?;
        let zone_name = zone.iana_name().unwrap_or(zone_name).into();
        Some(Self { period, zone, zone_name, cached: ArcSwapOption::empty() })
    }

    /// The length of a window and its first day.
    #[must_use]
    pub fn period(&self) -> Period {
        self.period
    }

    /// The time zone's IANA name in its own spelling.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// The window that contains `now`, with the adjacent ones.
    #[must_use]
    pub fn windows(&self, now: Micros) -> Windows {
        if let Some(cached) = self.cached.load().as_deref()
            && cached.bounds[1] <= now
            && now < cached.bounds[2]
        {
            return *cached;
        }
        let windows = match self.period {
            Period::Seconds(length) => fixed_windows(u64::from(length.get()), now),
            _ => self.civil_windows(now),
        };
        self.cached.store(Some(Arc::new(windows)));
        windows
    }

    fn civil_windows(&self, now: Micros) -> Windows {
        let microsecond = now.get().cast_signed();
        let instant = Timestamp::from_microsecond(microsecond).unwrap_or(Timestamp::UNIX_EPOCH);
        let current = self.period.first_day(instant.to_zoned_datetime(self.zone.clone()).date());
        let previous = self.period.first_day(current.saturating_sub(1.day()));
        let next = self.period.next_first_day(current);
        let starts = [previous, current, next, self.period.next_first_day(next)];
        Windows {
            starts: [previous, current, next].map(WindowStart::from_date),
            bounds: starts.map(|day| self.start_of_day(day)),
        }
    }

    /// The name of the window in which a civil day begins.
    #[must_use]
    pub fn window_containing(&self, day: WindowStart) -> WindowStart {
        match self.period {
            Period::Seconds(length) => {
                let length = u64::from(length.get());
                WindowStart::new(day.get() / length * length)
            }
            _ => WindowStart::from_date(self.period.first_day(day.date())),
        }
    }

    /// The instant at which the window of this name begins.
    #[must_use]
    pub fn start_of(&self, start: WindowStart) -> Micros {
        match self.period {
            Period::Seconds(_) => Micros::from_secs(start.get()),
            _ => self.start_of_day(start.date()),
        }
    }

    /// The instant at which the window of this name ends.
    #[must_use]
    pub fn end_of(&self, start: WindowStart) -> Micros {
        match self.period {
            Period::Seconds(length) => Micros::from_secs(start.get() + u64::from(length.get())),
            _ => self.start_of_day(self.period.next_first_day(start.date())),
        }
    }

    /// The first instant of a civil day: 01:00 if DST begins at midnight, and the next day's if the
    /// zone skipped the day.
    fn start_of_day(&self, day: Date) -> Micros {
        let start = day.to_zoned_datetime(self.zone.clone()).and_then(|there| there.start_of_day());
        start.map_or(Micros::MAX, |start| {
            Micros::new(u64::try_from(start.timestamp().as_microsecond()).unwrap_or(0))
        })
    }
}

/// The windows of `length` seconds around `now`.
fn fixed_windows(length: u64, now: Micros) -> Windows {
    let current = now.get() / 1_000_000 / length * length;
    let starts = [current.saturating_sub(length), current, current + length, current + 2 * length];
    Windows {
        starts: [starts[0], starts[1], starts[2]].map(WindowStart::new),
        bounds: starts.map(Micros::from_secs),
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {}", self.period, self.zone_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Micros {
        Micros::new(text.parse::<Timestamp>().unwrap().as_microsecond().try_into().unwrap())
    }

    fn current(period: Period, zone: &str, now: &str) -> (String, String, String) {
        let windows = Calendar::new(period, zone).unwrap().windows(at(now));
        let (name, end) = windows.window_at(at(now)).unwrap();
        let show = |time: Micros| {
            Timestamp::from_microsecond(time.get().cast_signed()).unwrap().to_string()
        };
        let start = windows.bounds[windows.starts.iter().position(|&other| other == name).unwrap()];
        (name.date().to_string(), show(start), show(end))
    }

    #[test]
    fn windows_of_damaged_rows_end_without_a_panic() {
        let periods = [
            Period::Seconds(NonZeroU32::new(60).unwrap()),
            Period::Day,
            Period::Week(Weekday::Monday),
            Period::Month(31),
        ];
        for (period, zone) in periods.into_iter().flat_map(|period| {
            ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"].map(|zone| (period, zone))
        }) {
            let calendar = Calendar::new(period, zone).unwrap();
            for start in [u64::MAX, 0, 1, 253_402_214_400, 253_402_300_799] {
                let window = WindowStart::new(start);
                assert!(calendar.end_of(window) >= calendar.start_of(window), "{period:?} {zone}");
                let _any_name = calendar.window_containing(window);
            }
            for now in [Micros::ZERO, Micros::MAX] {
                assert!(calendar.windows(now).bounds.is_sorted());
            }
        }
    }

    #[test]
    #[rustfmt::skip]
    fn windows_follow_the_civil_calendar() {
        use Period::{Day, Month, Week};
        let every = |seconds| Period::Seconds(NonZeroU32::new(seconds).unwrap());
        let cases = [
            // why                                         period              zone               now                     named        from                    to
            ("a UTC day",                                  Day,                "UTC",             "2026-11-23T23:59:59Z", "2026-11-23", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"),
            ("a day of 23 hours when DST begins",          Day,                "Europe/Berlin",   "2026-03-29T12:00:00Z", "2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("a day of 25 hours when DST ends",            Day,                "Europe/Berlin",   "2026-10-25T12:00:00Z", "2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ("a day that has no midnight",                 Day,                "America/Havana",  "2026-03-08T12:00:00Z", "2026-03-08", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
            ("the day before one that never was",          Day,                "Pacific/Apia",    "2011-12-30T09:00:00Z", "2011-12-29", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
            ("a zone of half an hour",                     Day,                "Asia/Kolkata",    "2026-01-01T18:30:00Z", "2026-01-02", "2026-01-01T18:30:00Z", "2026-01-02T18:30:00Z"),
            ("a week from Monday",                         Week(Weekday::Monday), "UTC",          "2026-11-22T10:00:00Z", "2026-11-16", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("a week from Sunday",                         Week(Weekday::Sunday), "UTC",          "2026-11-22T10:00:00Z", "2026-11-22", "2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z"),
            ("a month",                                    Month(1),           "UTC",             "2026-02-28T23:00:00Z", "2026-02-01", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("a billing month from the 15th, before it",   Month(15),          "UTC",             "2026-03-14T23:00:00Z", "2026-02-15", "2026-02-15T00:00:00Z", "2026-03-15T00:00:00Z"),
            ("a billing month from the 31st in February",  Month(31),          "UTC",             "2026-02-28T10:00:00Z", "2026-02-28", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"),
            ("a billing month from the 31st in leap year", Month(31),          "UTC",             "2028-02-28T10:00:00Z", "2028-01-31", "2028-01-31T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("a fixed minute",                             every(60),          "Europe/Berlin",   "2026-11-22T10:00:59Z", "2026-11-22", "2026-11-22T10:00:00Z", "2026-11-22T10:01:00Z"),
            ("a fixed week, from Thursday as 1970 began",  every(7 * 86_400),  "UTC",             "2026-11-22T10:00:00Z", "2026-11-19", "2026-11-19T00:00:00Z", "2026-11-26T00:00:00Z"),
            ("a billing month over the turn of the year",  Month(30),          "UTC",             "2027-01-05T10:00:00Z", "2026-12-30", "2026-12-30T00:00:00Z", "2027-01-30T00:00:00Z"),
        ];
        for (why, period, zone, now, named, from, to) in cases {
            assert_eq!(current(period, zone, now), (named.into(), from.into(), to.into()), "{why}");
        }
    }

    #[test]
    fn an_unknown_zone_is_refused() {
        assert!(Calendar::new(Period::Day, "Mars/Olympus").is_none());
    }

    proptest! {
        #[test]
        fn every_instant_lies_in_the_middle_window_or_at_a_seam(
            secs in 86_400_u64 * 60..4_000_000_000,
            period in prop_oneof![
                Just(Period::Day),
                (0_i8..7).prop_map(|day| Period::Week(Weekday::from_monday_zero_offset(day).unwrap())),
                (1_i8..=31).prop_map(Period::Month),
                (1_u32..=366 * 86_400).prop_map(|s| Period::Seconds(NonZeroU32::new(s).unwrap())),
            ],
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kolkata", "America/St_Johns"]),
        ) {
            let (now, calendar) = (Micros::from_secs(secs), Calendar::new(period, zone).unwrap());
            let windows = calendar.windows(now);
            prop_assert!(windows.bounds.is_sorted() && windows.starts.is_sorted());
            let (name, end) = windows.window_at(now).unwrap();
            prop_assert_eq!(calendar.end_of(name), end);
            prop_assert!(calendar.start_of(name) <= now && windows.bounds.contains(&calendar.start_of(name)));
            // The neighbour's own windows agree about where the seam is.
            let after = calendar.windows(end);
            prop_assert!(after.bounds.contains(&end));
        }
    }
}

//! The names of windows.

use jiff::ToSpan as _;
use jiff::civil::{Date, date};

/// A window's name: the civil time at which it starts, in seconds since 1970-01-01 00:00.
///
/// The name is a civil time and not an instant, so that two nodes with different time zone data
/// count into the same window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowStart(u64);

impl WindowStart {
    /// This number of seconds after 1970-01-01 00:00, at most 2^40 - 1 (five bytes in a row).
    #[must_use]
    pub const fn new(seconds: u64) -> Self {
        Self(if seconds < 1 << 40 { seconds } else { (1 << 40) - 1 })
    }

    /// Seconds since 1970-01-01 00:00.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The midnight at the start of a day.
    #[must_use]
    pub fn from_date(date: Date) -> Self {
        Self::new(u64::try_from(date.duration_since(EPOCH).as_secs()).unwrap_or(0))
    }

    /// The day that contains it.
    #[must_use]
    pub fn date(self) -> Date {
        let days = (self.0 / DAY_SECS).min(MAX_DAYS);
        EPOCH.saturating_add(days.cast_signed().days())
    }
}

/// A day's nominal length in seconds.
const DAY_SECS: u64 = 86_400;

/// The days from 1970 to 9999-12-31, the last day that a date can be: a damaged row may name a
/// later one.
const MAX_DAYS: u64 = 2_932_896;

const EPOCH: Date = date(1970, 1, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_a_damaged_row_has_a_date_too() {
        assert_eq!(WindowStart::new(u64::MAX).date(), date(9999, 12, 31));
        assert_eq!(WindowStart::new(MAX_DAYS * DAY_SECS).date(), date(9999, 12, 31));
        assert_eq!(WindowStart::new(86_400 * 366).date(), date(1971, 1, 2));
    }
}

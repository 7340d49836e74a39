//! The algorithm of a `rate_limit` as envoyproxy/ratelimit's YAML writes it, with our extensions.
//!
//! Its counterpart in a catalog is `catalog::algorithms`. Names and modes of rules are in `build`.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::raw::{RawAlgorithm, RawRateLimit};
use super::time_unit::TimeUnit;
use crate::algorithm::{Algorithm, Calendar, Period, Quota, Rate, Throttle};
use crate::catalog::validation::Report;
use crate::time::Micros;

/// The longest window: a leap year, for which stored rows are kept.
const MAX_WINDOW_SECS: u32 = 366 * 86_400;

/// The algorithm that `raw`, written at `at`, declares; `None` if it is not valid, with the error
/// in `report`.
pub(super) fn build_algorithm(
    raw: &RawRateLimit,
    unit: TimeUnit,
    at: &str,
    report: &mut Report,
) -> Option<Algorithm> {
    let limit = u64::from(raw.requests_per_unit.unwrap_or(0));
    let times = raw.unit_multiplier.unwrap_or(1);
    let times = NonZeroU32::new(times).filter(|times| {
        unit.seconds().checked_mul(times.get()).is_some_and(|all| all <= MAX_WINDOW_SECS)
    });
    let Some(times) = times else {
        report
            .error(&format!("{at}.unit_multiplier"), "must make a window of 1 second to 366 days");
        return None;
    };
    if raw.algorithm == RawAlgorithm::FixedWindow {
        if raw.burst.is_some() {
            let why = "is for `algorithm: token_bucket`; a window has no burst of its own";
            report.error(&format!("{at}.burst"), why);
        }
        let calendar = match &raw.time_zone {
            None => unit.windows(times),
            Some(zone) => calendar_windows(unit, times, zone, &format!("{at}.time_zone"), report),
        };
        return Some(fixed_window(limit, calendar?));
    }
    if raw.time_zone.is_some() {
        let why = "is for windows; a token bucket refills all the time";
        report.error(&format!("{at}.time_zone"), why);
    }
    let period = Micros::from_secs(u64::from(unit.seconds()) * u64::from(times.get()));
    let Some(rate) = Rate::new(limit, period) else {
        // A rate of 0 is no token bucket: as a window of 0 it refuses everything as well.
        return Some(fixed_window(0, unit.windows(times)?));
    };
    let bucket = Throttle::new(rate, raw.burst.unwrap_or(limit));
    bucket.map(Algorithm::from).map_err(|why| report.error(at, why)).ok()
}

/// A limit of so many requests within each window of `calendar`.
pub(super) fn fixed_window(limit: u64, calendar: Arc<Calendar>) -> Algorithm {
    Quota { limit, calendar }.into()
}

/// The windows of a calendar in a time zone: days, weeks and months, one in each window.
fn calendar_windows(
    unit: TimeUnit,
    times: NonZeroU32,
    zone: &str,
    at: &str,
    report: &mut Report,
) -> Option<Arc<Calendar>> {
    let period = match unit {
        TimeUnit::Day if times.get() == 1 => Period::Day,
        TimeUnit::Week if times.get() == 1 => Period::Week(jiff::civil::Weekday::Monday),
        TimeUnit::Month if times.get() == 1 => Period::Month(1),
        _ => {
            report.error(at, "is for a unit of one day, week or month");
            return None;
        }
    };
    let calendar = Calendar::new(period, zone).map(Arc::new);
    if calendar.is_none() {
        report.error(at, "is not an IANA name of a time zone, such as Europe/Berlin or UTC");
    }
    calendar
}

//! Time units of Envoy's rate limits: a limit is so many requests per unit.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::algorithm::{Calendar, Period};

/// The time unit of a rate limit, as Envoy's protocol has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they say it all")]
pub enum TimeUnit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl TimeUnit {
    pub(super) const ALL: [Self; 7] =
        [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// Reads a unit by its name in any case.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match &*name.to_ascii_lowercase() {
            "second" => Self::Second,
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }

    /// The length in seconds. As in envoyproxy/ratelimit a month has 30 days and a year 365.
    pub(super) const fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 30 * 86_400,
            Self::Year => 365 * 86_400,
        }
    }

    /// Windows of `times` units each; `None` if they would be too long for a `u32` of seconds.
    pub(super) fn windows(self, times: NonZeroU32) -> Option<Arc<Calendar>> {
        let seconds = NonZeroU32::new(self.seconds().checked_mul(times.get())?)?;
        Calendar::new(Period::Seconds(seconds), "UTC").map(Arc::new)
    }
}

//! The algorithms of limits as a catalog writes them, and what they become.
//!
//! A member of a limit names its algorithm: `throttle` is a token bucket, `quota` counts within
//! calendar windows, `concurrency` counts open reservations. Each algorithm's syntax is here, that
//! of slots in `concurrency`, and of a key's own sizes in `sizes`; names, units and options of
//! limits are not (see `limits`).

use std::fmt;
use std::sync::Arc;

use jiff::civil::Weekday;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::concurrency::{RawConcurrency, build_concurrency};
use super::options::{Consistency, Mode};
use super::validation::Report;
use crate::algorithm::{Algorithm, Calendar, Period, Quota, Rate, Throttle};
use crate::object::optional_object;
use crate::time::MAX_EXACT;

/// A further limit of a plan or a policy: exactly one member names its algorithm.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawLimit {
    /// Its name among the limits of its owner.
    pub name: String,
    /// The unit that it counts; requests if absent.
    #[serde(default = "requests")]
    pub unit: String,
    /// The models that it counts, whose names may end in `*`; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    throttle: Option<RawThrottle>,
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    quota: Option<RawQuota>,
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    concurrency: Option<RawConcurrency>,
    /// The owner's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Consistency>,
    /// The owner's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

fn requests() -> String {
    crate::limit::Unit::REQUESTS.into()
}

/// A token bucket.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawThrottle {
    /// The rate at which it refills.
    #[serde(alias = "rate_limit")]
    pub rate: RawRate,
    /// Its capacity.
    #[serde(alias = "burst_limit")]
    pub burst: u64,
}

/// A calendar quota.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawQuota {
    /// The units of a period.
    pub limit: u64,
    /// The period.
    pub period: RawPeriod,
    /// The IANA time zone in which periods begin; UTC if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The first day of a period; Monday, or the first of the month, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_on: Option<RawStart>,
}

/// The period of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", remote = "Self")]
pub enum RawPeriod {
    /// From midnight to midnight.
    Day,
    /// Seven days.
    Week,
    /// A calendar month.
    Month,
}

crate::syntax::read_from_text_only!(RawPeriod);

/// `10/s`, or a bare number per second as AWS writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RawRate(pub String);

/// The name of a weekday, or a day of the month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawStart(pub String);

/// The algorithm of a further limit; `None` if it is not valid, with the error in `report`.
pub(super) fn build_algorithm(raw: &RawLimit, at: &str, report: &mut Report) -> Option<Algorithm> {
    match (&raw.throttle, &raw.quota, &raw.concurrency) {
        (Some(throttle), None, None) => build_throttle(throttle, &format!("{at}.throttle"), report),
        (None, Some(quota), None) => build_quota(quota, &format!("{at}.quota"), report),
        (None, None, Some(slots)) => {
            build_concurrency(slots, &format!("{at}.concurrency"), report).map(Algorithm::from)
        }
        _ => {
            report.error(at, "a limit has exactly one of `throttle`, `quota` and `concurrency`");
            None
        }
    }
}

/// The token bucket that `throttle` declares.
pub(super) fn build_throttle(
    raw: &RawThrottle,
    at: &str,
    report: &mut Report,
) -> Option<Algorithm> {
    let rate: Rate = match raw.rate.0.parse() {
        Ok(rate) => rate,
        Err(error) => {
            report.error(&format!("{at}.rate"), error);
            return None;
        }
    };
    match Throttle::new(rate, raw.burst) {
        Err(error) => {
            report.error(at, error);
            None
        }
        Ok(throttle) => {
            warn_if_slower(rate, &throttle, at, report);
            Some(throttle.into())
        }
    }
}

/// The calendar quota that `quota` declares.
pub(super) fn build_quota(raw: &RawQuota, at: &str, report: &mut Report) -> Option<Algorithm> {
    check_quota_limit(raw.limit, at, report);
    let period = match parse_period(raw.period, raw.starts_on.as_ref()) {
        Ok(period) => period,
        Err(why) => {
            report.error(&format!("{at}.starts_on"), why);
            return None;
        }
    };
    let zone = raw.time_zone.as_deref().unwrap_or("UTC");
    let Some(calendar) = Calendar::new(period, zone) else {
        let shown: String = zone.chars().take(64).collect();
        report.error(
            &format!("{at}.time_zone"),
            format_args!(
                "there is no time zone `{shown}`; write an IANA name such as Europe/Berlin or UTC"
            ),
        );
        return None;
    };
    Some(Quota { limit: raw.limit, calendar: Arc::new(calendar) }.into())
}

/// Warns if a throttle's rate had to be rounded down, with the relative difference.
pub(super) fn warn_if_slower(rate: Rate, throttle: &Throttle, at: &str, report: &mut Report) {
    if throttle.rate() != rate {
        let slower = rate.excess_over(throttle.rate());
        report.warning(at, format_args!("the rate {rate} cannot be kept exactly with so large a burst; it is slower by a fraction of {slower:.1e}"));
    }
}

pub(super) fn check_quota_limit(limit: u64, at: &str, report: &mut Report) {
    if !(1..=MAX_EXACT).contains(&limit) {
        report.error(
            &format!("{at}.limit"),
            "a quota's limit is a whole number from 1 to 9007199254740991 (2^53 - 1)",
        );
    }
}

fn parse_period(period: RawPeriod, start: Option<&RawStart>) -> Result<Period, &'static str> {
    let start = start.map(|start| start.0.to_ascii_lowercase());
    match (period, start.as_deref()) {
        (RawPeriod::Day, None) => Ok(Period::Day),
        (RawPeriod::Day, Some(_)) => {
            Err("a day starts at midnight of its time_zone; leave starts_on out")
        }
        (RawPeriod::Week, start) => {
            parse_weekday(start.unwrap_or("monday")).map(Period::Week).ok_or(
                "a week starts on monday, tuesday, wednesday, thursday, friday, saturday or sunday",
            )
        }
        (RawPeriod::Month, start) => match start.unwrap_or("1").parse() {
            Ok(day @ 1..=31) => Ok(Period::Month(day)),
            _ => Err("a month starts on a day from 1 to 31; a shorter month, on its last day"),
        },
    }
}

fn parse_weekday(name: &str) -> Option<Weekday> {
    Some(match name {
        "monday" => Weekday::Monday,
        "tuesday" => Weekday::Tuesday,
        "wednesday" => Weekday::Wednesday,
        "thursday" => Weekday::Thursday,
        "friday" => Weekday::Friday,
        "saturday" => Weekday::Saturday,
        "sunday" => Weekday::Sunday,
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for RawRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_any(Scalar("a rate such as 10/s"))?;
        let bare = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        Ok(Self(if bare { format!("{text}/s") } else { text }))
    }
}

impl<'de> Deserialize<'de> for RawStart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let start = Scalar("a weekday such as monday, or a day of the month from 1 to 31");
        deserializer.deserialize_any(start).map(Self)
    }
}

impl Serialize for RawStart {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parse::<u64>() {
            Ok(day) => serializer.serialize_u64(day),
            Err(_) => serializer.serialize_str(&self.0),
        }
    }
}

/// Text or a number, as text; with a description of what is expected.
pub(super) struct Scalar(pub(super) &'static str);

impl Visitor<'_> for Scalar {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

//! Concurrency limits as a catalog writes them, and a key's own size of one.
//!
//! Which limits may be such, and their options, is in `limits`.

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use super::algorithms::Scalar;
use super::validation::Report;
use crate::algorithm::{Concurrency, InvalidConcurrency};
use crate::time::Micros;

/// The time of a slot unless the catalog says otherwise.
const DEFAULT_TTL: Micros = Micros::from_secs(60);

/// The units of times, in seconds.
const UNITS: [(&str, u64); 3] = [("min", 60), ("h", 3_600), ("s", 1)];

/// A number of slots.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawConcurrency {
    /// The reservations that may be open at a time.
    pub limit: u64,
    /// The longest time for which one of them holds its slot without being extended; 60 s if
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<RawTtl>,
}

/// A key's own size of a concurrency limit. A member that is absent keeps the plan's value.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawConcurrencyOverride {
    /// The reservations that may be open at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The longest time for which one of them holds its slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<RawTtl>,
}

/// A time such as `60s`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RawTtl(pub String);

impl<'de> Deserialize<'de> for RawTtl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar("a time such as 60s, 5min or 1h")).map(Self)
    }
}

/// The slots that `concurrency` declares; `None` if it is not valid.
pub(super) fn build_concurrency(
    raw: &RawConcurrency,
    at: &str,
    report: &mut Report,
) -> Option<Concurrency> {
    let ttl = raw.ttl.as_ref().map_or(Some(DEFAULT_TTL), |ttl| parse_ttl(ttl, at, report))?;
    let concurrency = Concurrency::new(raw.limit, ttl);
    concurrency.map_err(|error| report.error(&field_of(error, at), error)).ok()
}

/// The time that `ttl` at `at` says.
pub(super) fn parse_ttl(ttl: &RawTtl, at: &str, report: &mut Report) -> Option<Micros> {
    let number = |(unit, seconds): &(&str, u64)| {
        let number: u64 = ttl.0.trim().strip_suffix(unit)?.trim_end().parse().ok()?;
        Some(Micros::from_secs(number.saturating_mul(*seconds)))
    };
    let parsed = UNITS.iter().find_map(number);
    if parsed.is_none() {
        let why = "write a whole number with its unit, such as 60s, 5min or 1h";
        report.error(&format!("{at}.ttl"), why);
    }
    parsed
}

fn field_of(error: InvalidConcurrency, at: &str) -> String {
    match error {
        InvalidConcurrency::Limit => format!("{at}.limit"),
        InvalidConcurrency::Ttl => format!("{at}.ttl"),
    }
}

//! A key's own sizes of its plan's limits, as a catalog writes them, and the algorithms in them.
//!
//! Keeping them for a key is in `overrides`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::algorithms::{RawRate, check_quota_limit, warn_if_slower};
use super::concurrency::{RawConcurrencyOverride, parse_ttl};
use super::validation::Report;
use crate::algorithm::{Algorithm, Concurrency, Quota, Rate, Throttle};
use crate::object::optional_object;
use crate::time::Micros;

/// A key's own size of one of its plan's limits: the member is that of the limit's algorithm.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawLimitOverride {
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    throttle: Option<RawThrottleOverride>,
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    quota: Option<RawQuotaOverride>,
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    concurrency: Option<RawConcurrencyOverride>,
}

/// A key's own size of a throttle. A member that is absent keeps the plan's value.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawThrottleOverride {
    /// The rate at which it refills.
    #[serde(alias = "rate_limit", skip_serializing_if = "Option::is_none")]
    pub rate: Option<RawRate>,
    /// Its capacity.
    #[serde(alias = "burst_limit", skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

/// A key's own size of a quota.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawQuotaOverride {
    /// The units of a period.
    pub limit: u64,
}

/// A key's own size of a limit. A member that is absent keeps the plan's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum SizeOverride {
    Throttle { rate: Option<Rate>, burst: Option<u64> },
    Quota { limit: u64 },
    Concurrency { limit: Option<u64>, ttl: Option<Micros> },
}

impl SizeOverride {
    /// Reads the override of a further limit at `at`.
    pub(super) fn from_raw(raw: RawLimitOverride, at: &str, report: &mut Report) -> Option<Self> {
        match (raw.throttle, raw.quota, raw.concurrency) {
            (Some(throttle), None, None) => {
                Self::throttle(throttle, &format!("{at}.throttle"), report)
            }
            (None, Some(quota), None) => Some(Self::quota(&quota, &format!("{at}.quota"), report)),
            (None, None, Some(slots)) => {
                Self::concurrency(&slots, &format!("{at}.concurrency"), report)
            }
            _ => {
                let why =
                    "write a `throttle`, a `quota` or a `concurrency`, as the plan's limit has";
                report.error(at, why);
                None
            }
        }
    }

    /// Reads the override of a concurrency limit at `at`.
    fn concurrency(raw: &RawConcurrencyOverride, at: &str, report: &mut Report) -> Option<Self> {
        if raw.limit.is_none() && raw.ttl.is_none() {
            report.error(at, "write a limit, a ttl, or both");
            return None;
        }
        let ttl = match &raw.ttl {
            Some(ttl) => Some(parse_ttl(ttl, at, report)?),
            None => None,
        };
        Some(Self::Concurrency { limit: raw.limit, ttl })
    }

    /// Reads the override of a throttle at `at`.
    pub(super) fn throttle(
        raw: RawThrottleOverride,
        at: &str,
        report: &mut Report,
    ) -> Option<Self> {
        let RawThrottleOverride { rate, burst } = raw;
        if rate.is_none() && burst.is_none() {
            report.error(at, "write a rate, a burst, or both");
            return None;
        }
        let rate = rate.map(|rate| rate.0.parse()).transpose();
        let rate = rate.map_err(|error| report.error(&format!("{at}.rate"), error)).ok()?;
        Some(Self::Throttle { rate, burst })
    }

    /// Reads the override of a quota at `at`.
    pub(super) fn quota(raw: &RawQuotaOverride, at: &str, report: &mut Report) -> Self {
        check_quota_limit(raw.limit, at, report);
        Self::Quota { limit: raw.limit }
    }

    /// The algorithm in this size, with the windows that it has. A throttle's warnings are placed
    /// at `at`.
    pub(super) fn apply_to(
        self,
        algorithm: &Algorithm,
        at: &str,
        report: &mut Report,
    ) -> Result<Algorithm, String> {
        let (throttle, quota) = (algorithm.throttle(), algorithm.quota());
        match (self, throttle, quota, algorithm.concurrency()) {
            (Self::Throttle { rate, burst }, Some(throttle), ..) => {
                let rate = rate.unwrap_or_else(|| throttle.rate());
                let throttle = Throttle::new(rate, burst.unwrap_or_else(|| throttle.burst()));
                let throttle = throttle.map_err(|error| format!("throttle: {error}"))?;
                warn_if_slower(rate, &throttle, at, report);
                Ok(throttle.into())
            }
            (Self::Quota { limit }, _, Some(quota), _) => {
                Ok(Quota { limit, calendar: Arc::clone(&quota.calendar) }.into())
            }
            (Self::Concurrency { limit, ttl }, _, _, Some(slots)) => {
                let (limit, ttl) = (limit.unwrap_or(slots.limit()), ttl.unwrap_or(slots.ttl()));
                let slots = Concurrency::new(limit, ttl);
                slots.map(Algorithm::from).map_err(|error| format!("concurrency: {error}"))
            }
            (_, Some(_), ..) => Err("the plan's limit is a throttle: give it a `throttle`".into()),
            (_, _, Some(_), _) => Err("the plan's limit is a quota: give it a `quota`".into()),
            _ => Err("the plan's limit is of concurrency: give it a `concurrency`".into()),
        }
    }
}

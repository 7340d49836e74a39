//! Throttles and quotas, in both forms.

use serde_json::{Value, json};

use crate::algorithm::Rate;
use crate::catalog::raw::{
    RawLimit, RawPeriod, RawQuota, RawRate, RawStart, RawThrottle, RawThrottleOverride,
};
use crate::control::model::{ControlError, QuotaPeriod, QuotaSettings, ThrottleSettings};
use crate::object::Object;
use crate::syntax;

use super::{Losses, lose};

/// The weekdays in AWS' order.
const WEEKDAYS: [&str; 7] =
    ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
/// The latest day of a month on which AWS' periods begin.
const MAX_START_DAY: u8 = 28;

/// The further limits of `owner`, which AWS' form has as the catalog writes them.
pub(super) fn limits_to_catalog(
    owner: &str,
    limits: &[Value],
) -> Result<Vec<RawLimit>, ControlError> {
    let parse = |(place, limit): (usize, &Value)| {
        let parsed = syntax::from_json(limit).map(|Object(limit)| limit);
        parsed.map_err(|why| ControlError::BadRequest(format!("{owner}: limits[{place}]: {why}")))
    };
    limits.iter().enumerate().map(parse).collect()
}

/// Further limits as AWS' form has them.
pub(super) fn limits_from_catalog(limits: &[RawLimit]) -> Vec<Value> {
    limits.iter().map(|limit| json!(limit)).collect()
}

/// A throttle in the catalog's form. AWS' special values for "nothing passes" and "no limit" are
/// refused.
pub(super) fn throttle_to_catalog(
    throttle: &ThrottleSettings,
) -> Result<RawThrottle, ControlError> {
    let rate = positive_rate(throttle.rate_limit)?;
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and is then refused")]
    let burst = throttle.burst_limit.unwrap_or_else(|| (rate.ceil() as i64).max(1));
    Ok(RawThrottle { rate: rate_to_catalog(rate), burst: burst_to_catalog(burst)? })
}

/// The given parts of a throttle in the catalog's form.
pub(super) fn throttle_override_to_catalog(
    throttle: &ThrottleSettings,
) -> Result<RawThrottleOverride, ControlError> {
    let rate = throttle.rate_limit.map(|rate| positive_rate(Some(rate))).transpose()?;
    let burst = throttle.burst_limit.map(burst_to_catalog).transpose()?;
    Ok(RawThrottleOverride { rate: rate.map(rate_to_catalog), burst })
}

fn positive_rate(rate: Option<f64>) -> Result<f64, ControlError> {
    rate.filter(|rate| rate.is_finite() && *rate > 0.0).ok_or_else(|| {
        let why = "a throttle needs a rateLimit above 0; to block a key, disable it or take it off the plan";
        ControlError::BadRequest(why.into())
    })
}

fn rate_to_catalog(rate: f64) -> RawRate {
    RawRate(format!("{rate}/s"))
}

fn burst_to_catalog(burst: i64) -> Result<u64, ControlError> {
    u64::try_from(burst)
        .map_err(|_| ControlError::BadRequest(format!("the burstLimit {burst} is below 0")))
}

/// A throttle in AWS' form, its rate to the nearest number per second.
pub(super) fn throttle_from_catalog(
    throttle: &RawThrottle,
    at: &str,
    losses: &mut Losses,
) -> ThrottleSettings {
    ThrottleSettings {
        rate_limit: rate_from_catalog(&throttle.rate, at, losses),
        burst_limit: Some(burst_from_catalog(throttle.burst)),
    }
}

/// The given parts of a throttle in AWS' form.
pub(super) fn throttle_override_from_catalog(
    throttle: &RawThrottleOverride,
    at: &str,
    losses: &mut Losses,
) -> ThrottleSettings {
    let rate = throttle.rate.as_ref();
    ThrottleSettings {
        rate_limit: rate.and_then(|rate| rate_from_catalog(rate, at, losses)),
        burst_limit: throttle.burst.map(burst_from_catalog),
    }
}

fn burst_from_catalog(burst: u64) -> i64 {
    i64::try_from(burst).unwrap_or(i64::MAX)
}

/// The number per second that is nearest to a rate; `None` for a rate that is invalid.
fn rate_from_catalog(written: &RawRate, at: &str, losses: &mut Losses) -> Option<f64> {
    let rate: Rate = written.0.parse().ok()?;
    let nearest = rate.per_second();
    let (number, _) = written.0.split_once('/')?;
    // A long number per second is rounded as a fraction, but may be exact as it is written.
    let candidates = [Some(nearest), number.trim().parse().ok()];
    let is_exact = |per_second: &f64| rate_to_catalog(*per_second).0.parse() == Ok(rate);
    let exact = candidates.into_iter().flatten().find(is_exact);
    if exact.is_none() {
        let why = "the API has decimal numbers per second only; write such a one, or put it under the plan's `limits`";
        lose(losses, format!("{at}.rate"), why);
    }
    Some(exact.unwrap_or(nearest))
}

/// A quota in the catalog's form.
pub(super) fn quota_to_catalog(quota: &QuotaSettings) -> Result<RawQuota, ControlError> {
    let refuse = |why: &str| Err(ControlError::BadRequest(why.into()));
    let (period, starts_on) = match (quota.period, quota.offset) {
        (None, _) => return refuse("a quota needs a period: DAY, WEEK or MONTH"),
        (Some(QuotaPeriod::Day), 0) => (RawPeriod::Day, None),
        (Some(QuotaPeriod::Day), _) => {
            return refuse("Usage Plan quota offset must be zero in the DAY period");
        }
        (Some(QuotaPeriod::Week), day) => match WEEKDAYS.get(usize::from(day)) {
            Some(&weekday) => (RawPeriod::Week, Some(weekday.to_owned())),
            None => {
                return refuse(
                    "Usage Plan quota offset must be from 0 (Sunday) to 6 in the WEEK period",
                );
            }
        },
        (Some(QuotaPeriod::Month), day) if day < MAX_START_DAY => {
            (RawPeriod::Month, Some((day + 1).to_string()))
        }
        (Some(QuotaPeriod::Month), _) => {
            return refuse("Usage Plan quota offset must be from 0 to 27 in the MONTH period");
        }
    };
    Ok(RawQuota {
        limit: quota.limit,
        period,
        time_zone: quota.time_zone.clone(),
        starts_on: starts_on.map(RawStart),
    })
}

/// A quota in AWS' form.
pub(super) fn quota_from_catalog(quota: &RawQuota, at: &str, losses: &mut Losses) -> QuotaSettings {
    let start = quota.starts_on.as_ref().map(|start| start.0.to_ascii_lowercase());
    let (period, offset) = match quota.period {
        RawPeriod::Day => (QuotaPeriod::Day, 0),
        RawPeriod::Week => {
            let start = start.as_deref().unwrap_or("monday");
            let offset = (0..).zip(WEEKDAYS).find(|(_, weekday)| *weekday == start);
            (QuotaPeriod::Week, offset.map_or(0, |(offset, _)| offset))
        }
        RawPeriod::Month => {
            let day: u8 = start.and_then(|day| day.parse().ok()).unwrap_or(1);
            if day > MAX_START_DAY {
                let why = "months of the API begin on a day from 1 to 28";
                lose(losses, format!("{at}.starts_on"), why);
            }
            (QuotaPeriod::Month, day.saturating_sub(1))
        }
    };
    QuotaSettings {
        limit: quota.limit,
        offset,
        period: Some(period),
        time_zone: quota.time_zone.clone(),
    }
}

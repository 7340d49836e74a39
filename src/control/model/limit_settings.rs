//! Throttles and quotas as AWS writes them, and as the catalog does.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::ControlError;
use super::patch::PatchOperation;

/// Requests per second, and how many at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ThrottleSettings {
    /// Per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rate_limit: Option<f64>,
    /// At once; a second's worth of the rate where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) burst_limit: Option<i64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct QuotaSettings {
    limit: u64,
    /// The day on which the period begins: 0 is Sunday, or the first of the month.
    #[serde(default)]
    offset: u8,
    period: Option<QuotaPeriod>,
    /// Beyond AWS: where the days begin; UTC where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum QuotaPeriod {
    Day,
    Week,
    Month,
}

/// `/pets/GET` as the catalog writes it: `GET /pets`. The root's methods are `//GET`.
pub(super) fn to_catalog_method(method: &str) -> Result<String, ControlError> {
    let parts = method.rsplit_once('/');
    let (path, verb) = parts.ok_or_else(|| {
        ControlError::BadRequest(format!("`{method}` is no path and method, such as /pets/GET"))
    })?;
    if verb == "ANY" || verb == "*" {
        let why =
            format!("`{method}`: a throttle is for one HTTP method; name it instead of {verb}");
        return Err(ControlError::BadRequest(why));
    }
    let path =
        path.strip_suffix("{proxy+}").map_or_else(|| path.to_owned(), |above| format!("{above}*"));
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(format!("{verb} {slash}{path}"))
}

impl ThrottleSettings {
    /// Sets one member by a patch.
    pub(super) fn set(
        &mut self,
        member: &str,
        operation: &PatchOperation,
    ) -> Result<(), ControlError> {
        match member {
            "rateLimit" => self.rate_limit = Some(operation.parse_value()?),
            "burstLimit" => self.burst_limit = Some(operation.parse_value()?),
            _ => return Err(operation.unknown_path()),
        }
        Ok(())
    }

    /// As the catalog writes it. What AWS takes for "nothing passes" and "no limit" is neither.
    pub(super) fn to_catalog_json(&self) -> Result<Value, ControlError> {
        let rate = above_zero(self.rate_limit)?;
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and is then refused")]
        let burst = self.burst_limit.unwrap_or_else(|| (rate.ceil() as i64).max(1));
        Ok(json!({ "rate": format!("{rate}/s"), "burst": burst }))
    }
}

impl ThrottleSettings {
    /// What it says, as the catalog writes it; the rest is somebody else's to say.
    pub(super) fn to_partial_catalog_json(&self) -> Result<Value, ControlError> {
        let mut declared = Map::new();
        if self.rate_limit.is_some() {
            declared.insert("rate".into(), format!("{}/s", above_zero(self.rate_limit)?).into());
        }
        declared.extend(self.burst_limit.map(|burst| ("burst".to_owned(), burst.into())));
        Ok(declared.into())
    }
}

fn above_zero(rate: Option<f64>) -> Result<f64, ControlError> {
    rate.filter(|rate| rate.is_finite() && *rate > 0.0).ok_or_else(|| {
        let why = "a throttle needs a rateLimit above 0; to block a key, disable it or take it off the plan";
        ControlError::BadRequest(why.into())
    })
}

impl QuotaSettings {
    /// Sets one member by a patch.
    pub(super) fn set(
        &mut self,
        member: &str,
        operation: &PatchOperation,
    ) -> Result<(), ControlError> {
        match member {
            "limit" => self.limit = operation.parse_value()?,
            "offset" => self.offset = operation.parse_value()?,
            "period" => {
                let period = Value::from(operation.value()?);
                let why = |_| operation.error("a period is DAY, WEEK or MONTH");
                self.period = Some(serde_json::from_value(period).map_err(why)?);
            }
            "timeZone" => self.time_zone = Some(operation.value()?.into()),
            _ => return Err(operation.unknown_path()),
        }
        Ok(())
    }

    /// As the catalog writes it.
    pub(super) fn to_catalog_json(&self) -> Result<Value, ControlError> {
        const WEEKDAYS: [&str; 7] =
            ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
        let refuse = |why: &str| Err(ControlError::BadRequest(why.into()));
        let (period, start) = match (self.period, self.offset) {
            (None, _) => return refuse("a quota needs a period: DAY, WEEK or MONTH"),
            (Some(QuotaPeriod::Day), 0) => ("day", Value::Null),
            (Some(QuotaPeriod::Day), _) => {
                return refuse("Usage Plan quota offset must be zero in the DAY period");
            }
            (Some(QuotaPeriod::Week), day) => match WEEKDAYS.get(usize::from(day)) {
                Some(&weekday) => ("week", weekday.into()),
                None => {
                    return refuse(
                        "Usage Plan quota offset must be from 0 (Sunday) to 6 in the WEEK period",
                    );
                }
            },
            (Some(QuotaPeriod::Month), day @ 0..=27) => ("month", (day + 1).into()),
            (Some(QuotaPeriod::Month), _) => {
                return refuse("Usage Plan quota offset must be from 0 to 27 in the MONTH period");
            }
        };
        let mut declared = json!({ "limit": self.limit, "period": period });
        let more = [("starts_on", start), ("time_zone", self.time_zone.clone().into())];
        for (name, value) in more.into_iter().filter(|(_, value)| !value.is_null()) {
            declared[name] = value;
        }
        Ok(declared)
    }
}

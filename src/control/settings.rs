//! Throttles and quotas as AWS writes them, and as the catalog does.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Error;
use super::patch::Operation;

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
    period: Option<Period>,
    /// Beyond AWS: where the days begin; UTC where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Period {
    Day,
    Week,
    Month,
}

/// `/pets/GET` as the catalog writes it: `GET /pets`. The root's methods are `//GET`.
pub(super) fn method_name(written: &str) -> Result<String, Error> {
    let parts = written.rsplit_once('/');
    let (path, method) = parts.ok_or_else(|| {
        Error::BadRequest(format!("`{written}` is no path and method, such as /pets/GET"))
    })?;
    if method == "ANY" || method == "*" {
        let why =
            format!("`{written}`: a throttle is for one HTTP method; name it instead of {method}");
        return Err(Error::BadRequest(why));
    }
    let path =
        path.strip_suffix("{proxy+}").map_or_else(|| path.to_owned(), |above| format!("{above}*"));
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(format!("{method} {slash}{path}"))
}

impl ThrottleSettings {
    /// Sets one member by a patch.
    pub(super) fn set(&mut self, member: &str, operation: &Operation) -> Result<(), Error> {
        match member {
            "rateLimit" => self.rate_limit = Some(operation.parsed()?),
            "burstLimit" => self.burst_limit = Some(operation.parsed()?),
            _ => return Err(operation.unknown()),
        }
        Ok(())
    }

    /// As the catalog writes it. What AWS takes for "nothing passes" and "no limit" is neither.
    pub(super) fn declare(&self) -> Result<Value, Error> {
        let rate = above_zero(self.rate_limit)?;
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and is then refused")]
        let burst = self.burst_limit.unwrap_or_else(|| (rate.ceil() as i64).max(1));
        Ok(json!({ "rate": format!("{rate}/s"), "burst": burst }))
    }
}

impl ThrottleSettings {
    /// What it says, as the catalog writes it; the rest is somebody else's to say.
    pub(super) fn declare_size(&self) -> Result<Value, Error> {
        let mut declared = Map::new();
        if self.rate_limit.is_some() {
            declared.insert("rate".into(), format!("{}/s", above_zero(self.rate_limit)?).into());
        }
        declared.extend(self.burst_limit.map(|burst| ("burst".to_owned(), burst.into())));
        Ok(declared.into())
    }
}

fn above_zero(rate: Option<f64>) -> Result<f64, Error> {
    rate.filter(|rate| rate.is_finite() && *rate > 0.0).ok_or_else(|| {
        let why = "a throttle needs a rateLimit above 0; to block a key, disable it or take it off the plan";
        Error::BadRequest(why.into())
    })
}

impl QuotaSettings {
    /// Sets one member by a patch.
    pub(super) fn set(&mut self, member: &str, operation: &Operation) -> Result<(), Error> {
        match member {
            "limit" => self.limit = operation.parsed()?,
            "offset" => self.offset = operation.parsed()?,
            "period" => {
                let period = Value::from(operation.value()?);
                let why = |_| operation.refuse("a period is DAY, WEEK or MONTH");
                self.period = Some(serde_json::from_value(period).map_err(why)?);
            }
            "timeZone" => self.time_zone = Some(operation.value()?.into()),
            _ => return Err(operation.unknown()),
        }
        Ok(())
    }

    /// As the catalog writes it.
    pub(super) fn declare(&self) -> Result<Value, Error> {
        const WEEKDAYS: [&str; 7] =
            ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
        let refuse = |why: &str| Err(Error::BadRequest(why.into()));
        let (period, start) = match (self.period, self.offset) {
            (None, _) => return refuse("a quota needs a period: DAY, WEEK or MONTH"),
            (Some(Period::Day), 0) => ("day", Value::Null),
            (Some(Period::Day), _) => {
                return refuse("Usage Plan quota offset must be zero in the DAY period");
            }
            (Some(Period::Week), day) => match WEEKDAYS.get(usize::from(day)) {
                Some(&weekday) => ("week", weekday.into()),
                None => {
                    return refuse(
                        "Usage Plan quota offset must be from 0 (Sunday) to 6 in the WEEK period",
                    );
                }
            },
            (Some(Period::Month), day @ 0..=27) => ("month", (day + 1).into()),
            (Some(Period::Month), _) => {
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

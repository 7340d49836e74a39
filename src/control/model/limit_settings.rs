//! Throttles and quotas in AWS' members.
//!
//! The catalog checks them; `translate` puts them into its form.

use serde::{Deserialize, Serialize};

use super::error::ControlError;
use super::patch::PatchOperation;

/// A token bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::control) struct ThrottleSettings {
    /// Requests per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<f64>,
    /// The token bucket's capacity; a second's worth of the rate if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_limit: Option<i64>,
}

/// A calendar quota of requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::control) struct QuotaSettings {
    /// Requests per period.
    pub limit: u64,
    /// The day on which a period begins: 0 is Sunday, or the first of the month.
    #[serde(default)]
    pub offset: u8,
    /// The period. AWS requires it, but a patch may set it after the limit.
    pub period: Option<QuotaPeriod>,
    /// Beyond AWS: the time zone in which days begin; UTC if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// The period of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE", remote = "Self")]
pub(in crate::control) enum QuotaPeriod {
    /// From midnight to midnight.
    Day,
    /// Seven days.
    Week,
    /// A calendar month.
    Month,
}

crate::syntax::read_from_text_only!(QuotaPeriod);

impl ThrottleSettings {
    /// Sets one member by a patch.
    pub(in crate::control) fn set(
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

    /// The operations that set it under `path`.
    pub(in crate::control) fn operations(
        &self,
        path: &str,
    ) -> impl Iterator<Item = PatchOperation> {
        let rate = self.rate_limit.map(|it| PatchOperation::set(format!("{path}/rateLimit"), &it));
        let burst =
            self.burst_limit.map(|it| PatchOperation::set(format!("{path}/burstLimit"), &it));
        rate.into_iter().chain(burst)
    }
}

impl QuotaSettings {
    /// Sets one member by a patch.
    pub(in crate::control) fn set(
        &mut self,
        member: &str,
        operation: &PatchOperation,
    ) -> Result<(), ControlError> {
        match member {
            "limit" => self.limit = operation.parse_value()?,
            "offset" => self.offset = operation.parse_value()?,
            "period" => self.period = Some(operation.parse_word("DAY, WEEK and MONTH")?),
            "timeZone" => self.time_zone = Some(operation.value()?.into()),
            _ => return Err(operation.unknown_path()),
        }
        Ok(())
    }

    /// The operations that set it under `path`.
    pub(in crate::control) fn operations(
        &self,
        path: &str,
    ) -> impl Iterator<Item = PatchOperation> {
        let set = |member, value| PatchOperation::set(format!("{path}/{member}"), &value);
        let required = [
            set("limit", serde_json::json!(self.limit)),
            set("offset", serde_json::json!(self.offset)),
        ];
        let period = self.period.map(|period| set("period", serde_json::json!(period)));
        let zone = self.time_zone.as_ref().map(|zone| set("timeZone", serde_json::json!(zone)));
        required.into_iter().chain(period).chain(zone)
    }
}

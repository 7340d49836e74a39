//! The catalog as people write it: names and types, nothing more.
//!
//! Not Debug: keys stand here in the clear.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::failure_policy::OnStoreFailure;
use crate::object::{object_list, optional_object};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCatalog {
    pub(super) version: u64,
    #[serde(default)]
    pub(super) apis: Vec<RawApi>,
    #[serde(default)]
    pub(super) plans: Vec<RawPlan>,
    #[serde(default)]
    pub(super) keys: Vec<RawKey>,
    #[serde(default)]
    pub(super) policies: Vec<RawPolicy>,
}

impl RawCatalog {
    pub(super) fn from_yaml(text: &str) -> Result<Self, String> {
        from_yaml(text, true)
    }

    /// The same members, from a program.
    pub(super) fn from_json(declared: &serde_json::Value) -> Result<Self, String> {
        serde_path_to_error::deserialize(declared)
            .map_err(|error| format!("{}: {}", error.path(), error.inner()))
    }

    /// Adds what was written elsewhere.
    pub(super) fn extend(&mut self, more: Self) {
        self.apis.extend(more.apis);
        self.plans.extend(more.plans);
        self.keys.extend(more.keys);
        self.policies.extend(more.policies);
    }
}

/// Names and types only. A fault has its path and its line, and nothing of the text itself. With
/// `strict_booleans` only `true` and `false` are any.
pub(super) fn from_yaml<T: DeserializeOwned>(
    text: &str,
    strict_booleans: bool,
) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: strict_booleans };
    let mut path = String::new();
    let read = |yaml: serde_saphyr::Deserializer<'_, '_>| {
        serde_path_to_error::deserialize(yaml).map_err(|error| {
            path = error.path().to_string();
            error.into_inner()
        })
    };
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, read);
    read.map_err(|error| {
        let at = if path.is_empty() || path == "." { String::new() } else { format!("{path}: ") };
        format!("{at}{}", error.without_snippet())
    })
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApi {
    pub(super) id: String,
    #[serde(default)]
    pub(super) stages: Vec<RawStage>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStage {
    pub(super) name: String,
    pub(super) throttle: Option<RawThrottle>,
    #[serde(default)]
    pub(super) methods: RawMethods,
    #[serde(default)]
    pub(super) consistency: Consistency,
}

pub(super) type RawMethods = BTreeMap<String, RawMethod>;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMethod {
    pub(super) throttle: RawThrottle,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApiStage {
    pub(super) api: String,
    pub(super) stage: String,
    #[serde(default)]
    pub(super) methods: RawMethods,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPlan {
    pub(super) id: String,
    pub(super) api_stages: Option<Vec<RawApiStage>>,
    #[serde(default)]
    pub(super) alongside: bool,
    pub(super) throttle: Option<RawThrottle>,
    pub(super) quota: Option<RawQuota>,
    #[serde(default, deserialize_with = "object_list")]
    pub(super) limits: Vec<RawLimit>,
    #[serde(default)]
    pub(super) on_store_failure: OnStoreFailure,
    #[serde(default)]
    pub(super) consistency: Consistency,
    #[serde(default)]
    pub(super) mode: Mode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    pub(super) name: String,
    pub(super) throttle: Option<RawThrottle>,
    pub(super) quota: Option<RawQuota>,
    #[serde(default)]
    pub(super) limits: Vec<RawLimit>,
    #[serde(default)]
    pub(super) on_store_failure: OnStoreFailure,
    #[serde(default)]
    pub(super) consistency: Consistency,
    #[serde(default)]
    pub(super) mode: Mode,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimit {
    pub(super) name: String,
    #[serde(default = "requests")]
    pub(super) unit: String,
    #[serde(default, deserialize_with = "optional_object")]
    pub(super) throttle: Option<RawThrottle>,
    #[serde(default, deserialize_with = "optional_object")]
    pub(super) quota: Option<RawQuota>,
    /// Read so that its absence from this version can be explained.
    #[serde(skip_serializing)]
    pub(super) concurrency: Option<de::IgnoredAny>,
    pub(super) consistency: Option<Consistency>,
    pub(super) mode: Option<Mode>,
}

fn requests() -> String {
    crate::limit::Unit::BUILT_IN[0].into()
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawThrottle {
    #[serde(alias = "rate_limit")]
    pub(super) rate: RawRate,
    #[serde(alias = "burst_limit")]
    pub(super) burst: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQuota {
    pub(super) limit: u64,
    pub(super) period: RawPeriod,
    pub(super) time_zone: Option<String>,
    pub(super) starts_on: Option<RawStart>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawPeriod {
    Day,
    Week,
    Month,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKey {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) value: Option<String>,
    pub(super) value_sha256: Option<String>,
    #[serde(default)]
    pub(super) plans: Vec<String>,
    #[serde(default = "yes")]
    pub(super) enabled: bool,
    pub(super) expires_at: Option<String>,
    pub(super) customer_id: Option<String>,
    #[serde(default)]
    pub(super) overrides: super::overrides::RawOverrides,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Consistency {
    #[default]
    Exact,
    Leased,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    #[default]
    Enforce,
    Shadow,
}

/// `10/s`, or a bare number per second as AWS has it.
#[derive(Serialize)]
pub(super) struct RawRate(pub(super) String);

/// A weekday's name, or a day of the month.
#[derive(Serialize)]
pub(super) struct RawStart(pub(super) String);

impl<'de> Deserialize<'de> for RawRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_any(Scalar("a rate such as 10/s"))?;
        let bare = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        Ok(Self(if bare { format!("{text}/s") } else { text }))
    }
}

impl<'de> Deserialize<'de> for RawStart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Scalar("a weekday such as monday, or a day of the month from 1 to 31"))
            .map(Self)
    }
}

/// Text or a number, as text.
struct Scalar(&'static str);

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

//! envoyproxy/ratelimit's YAML as people write it: names and types, nothing more.
//!
//! The schema is that of its README and of `src/config/config_impl.go`; `algorithm`, `burst`,
//! `time_zone`, `unit_multiplier` and `after_the_fact` are ours.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDomain {
    pub(super) domain: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) descriptors: Vec<RawDescriptor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "the format's")]
pub(super) struct RawDescriptor {
    pub(super) key: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) value: String,
    pub(super) rate_limit: Option<RawRateLimit>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) descriptors: Vec<Self>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) shadow_mode: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) quota_mode: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) detailed_metric: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) value_to_metric: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) share_threshold: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) metadata: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRateLimit {
    pub(super) requests_per_unit: Option<u32>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) unit: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) unlimited: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) replaces: Vec<RawReplaced>,
    #[serde(default)]
    pub(super) algorithm: RawAlgorithm,
    pub(super) burst: Option<u64>,
    pub(super) time_zone: Option<String>,
    pub(super) unit_multiplier: Option<u32>,
    pub(super) after_the_fact: Option<bool>,
}

impl RawRateLimit {
    /// Returns true if it has members that envoyproxy/ratelimit does not have.
    pub(super) fn uses_extensions(&self) -> bool {
        self.algorithm != RawAlgorithm::FixedWindow
            || self.burst.is_some()
            || self.time_zone.is_some()
            || self.unit_multiplier.is_some()
            || self.after_the_fact.is_some()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReplaced {
    #[serde(default)]
    pub(super) name: String,
}

/// The algorithm of a rule.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawAlgorithm {
    /// A counter for each window, as in envoyproxy/ratelimit.
    #[default]
    FixedWindow,
    TokenBucket,
}

/// Reads null, such as `descriptors:` without a value, as if the member were absent.
fn null_as_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

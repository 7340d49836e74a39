//! The catalog in its written form: names and types, not validated.
//!
//! The syntax of algorithms and options is in files of their own, and is exported here. A type that
//! holds a key's value has no `Debug`: the value is in clear text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::access::{RawAccess, RawMethodAccess};
pub use super::algorithms::{RawLimit, RawPeriod, RawQuota, RawRate, RawStart, RawThrottle};
pub use super::concurrency::{RawConcurrency, RawConcurrencyOverride, RawTtl};
pub use super::key_type::RawKeyType;
pub use super::models::{RawModel, RawModels, RawUnit, RawUnits, RawWeight};
pub use super::options::{Consistency, Mode};
pub use super::sizes::{RawLimitOverride, RawQuotaOverride, RawThrottleOverride};
use crate::failure_policy::FailurePolicy;
use crate::object::{object_list, object_map};
use crate::syntax;

/// A catalog file, or the part of a catalog that the admin API declares.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawCatalog {
    /// The version of the format: 1.
    pub version: u64,
    /// Models with their prices.
    #[serde(default, deserialize_with = "object_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub models: RawModels,
    /// Units that weigh tokens by kind.
    #[serde(default, deserialize_with = "object_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub units: RawUnits,
    /// APIs with their stages.
    #[serde(default)]
    pub apis: Vec<RawApi>,
    /// Usage plans.
    #[serde(default)]
    pub plans: Vec<RawPlan>,
    /// API keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<RawKey>,
    /// Limits of subjects that a request names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<RawPolicy>,
}

impl RawCatalog {
    /// Reads a catalog file.
    ///
    /// # Errors
    /// If the text is not YAML, or not of a catalog's form. The error quotes no value.
    pub fn from_yaml(text: &str) -> Result<Self, String> {
        syntax::from_yaml(text, true)
    }
}

/// An API.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawApi {
    /// The name that requests call `api`.
    pub id: String,
    /// Its stages.
    #[serde(default)]
    pub stages: Vec<RawStage>,
}

/// A stage of an API, and the limits that all its clients share.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawStage {
    /// The name that requests call `stage`.
    pub name: String,
    /// The limit of all its requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<RawThrottle>,
    /// The limits of single methods.
    #[serde(default)]
    pub methods: RawMethods,
    /// Further limits of all its requests, in any unit.
    #[serde(default, deserialize_with = "object_list", skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<RawLimit>,
    /// Exact unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Consistency>,
    /// The API keys that methods need, which only the admin API declares.
    #[serde(skip_deserializing, skip_serializing_if = "RawAccess::is_default")]
    pub access: RawAccess,
}

/// The limits of methods, by names such as `GET /pets`; `*` is every other method.
pub type RawMethods = BTreeMap<String, RawMethod>;

/// The limit of a method.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawMethod {
    /// Its only kind of limit.
    pub throttle: RawThrottle,
}

/// A stage that a plan serves.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawApiStage {
    /// The API's id.
    pub api: String,
    /// The stage's name.
    pub stage: String,
    /// The limits of each client of the plan on single methods.
    #[serde(default)]
    pub methods: RawMethods,
}

/// A usage plan.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawPlan {
    /// The name by which keys refer to it.
    pub id: String,
    /// The stages that it serves; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_stages: Option<Vec<RawApiStage>>,
    /// True if a key may be on it beside other plans of the same stage.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alongside: bool,
    /// The rate of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<RawThrottle>,
    /// The requests of a period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<RawQuota>,
    /// Further limits, in any unit.
    #[serde(default, deserialize_with = "object_list")]
    pub limits: Vec<RawLimit>,
    /// Open unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_store_failure: Option<FailurePolicy>,
    /// Exact unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Consistency>,
    /// Enforced unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// Limits of each subject that a request names under this policy.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawPolicy {
    /// The name by which requests refer to it.
    pub name: String,
    /// Text unless given.
    #[serde(default)]
    pub key_type: RawKeyType,
    /// The bits of an IPv4 address that are counted; 32 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v4_prefix: Option<u64>,
    /// The bits of an IPv6 address that are counted; 64 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v6_prefix: Option<u64>,
    /// The keys that may begin on a node, of those that it does not know; 10,000 a second if
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_keys: Option<RawRate>,
    /// The rate of requests.
    pub throttle: Option<RawThrottle>,
    /// The requests of a period.
    pub quota: Option<RawQuota>,
    /// Further limits, in any unit.
    #[serde(default)]
    pub limits: Vec<RawLimit>,
    /// Open unless given.
    #[serde(default)]
    pub on_store_failure: FailurePolicy,
    /// Exact unless given.
    #[serde(default)]
    pub consistency: Consistency,
    /// Enforced unless given.
    #[serde(default)]
    pub mode: Mode,
}

/// An API key.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawKey {
    /// The name by which responses, logs and counters call it.
    pub id: String,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The secret in clear text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The secret's SHA-256, instead of the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_sha256: Option<String>,
    /// The ids of its plans.
    #[serde(default)]
    pub plans: Vec<String>,
    /// False if the key is refused.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub enabled: bool,
    /// The time after which it is refused, as RFC 3339 writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The operator's own name of its holder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    /// Its own sizes of its plans' limits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: RawOverrides,
    /// The policies that are judged with every check of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: RawKeyPolicies,
}

fn yes() -> bool {
    true
}

/// A key's policies: by the policy's name, the key that it counts.
pub type RawKeyPolicies = BTreeMap<String, String>;

/// A key's own sizes of limits, by plan.
pub type RawOverrides = BTreeMap<String, RawPlanOverrides>;

/// A key's own sizes of a plan's limits; the others stay the plan's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawPlanOverrides {
    /// The plan's throttle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<RawThrottleOverride>,
    /// The plan's quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<RawQuotaOverride>,
    /// The plan's further limits, by name.
    #[serde(default, deserialize_with = "object_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, RawLimitOverride>,
}

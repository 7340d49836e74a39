//! The catalog as people write it: names and types, nothing more.
//!
//! These types are not `Debug`: they hold API keys in the clear.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::algorithms::{
    RawLimit, RawLimitOverride, RawQuota, RawQuotaOverride, RawThrottle, RawThrottleOverride,
};
use super::options::{Consistency, Mode};
use crate::failure_policy::OnStoreFailure;
use crate::object::{object_list, object_map};

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
    /// Appends the entries of another catalog.
    pub(super) fn extend(&mut self, more: Self) {
        self.apis.extend(more.apis);
        self.plans.extend(more.plans);
        self.keys.extend(more.keys);
        self.policies.extend(more.policies);
    }
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

/// Limits by `METHOD PATH`.
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
    pub(super) overrides: RawOverrides,
}

fn yes() -> bool {
    true
}

/// A key's own sizes of its plans' limits, by plan.
pub(super) type RawOverrides = BTreeMap<String, RawPlanOverrides>;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPlanOverrides {
    pub(super) throttle: Option<RawThrottleOverride>,
    pub(super) quota: Option<RawQuotaOverride>,
    /// By the name of the limit.
    #[serde(default, deserialize_with = "object_map")]
    pub(super) limits: BTreeMap<String, RawLimitOverride>,
}

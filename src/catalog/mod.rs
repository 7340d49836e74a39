//! The catalog: APIs, stages, usage plans, API keys and policies, validated and indexed for checks.
//!
//! Reading goes one way: the written form (`raw`, `algorithms`) is validated and becomes limits
//! (`build`, `limits`, `methods`, `keys`). `resolve` finds the limits of a check request. Nothing
//! here reads a clock or a store.
//!
//! ```
//! use tollgate::catalog::Catalog;
//!
//! let yaml = "
//! version: 1
//! plans:
//!   - { id: basic, throttle: { rate: 10/s, burst: 20 }, quota: { limit: 1000, period: day } }
//! keys:
//!   - { id: alice, value: secret, plans: [basic] }
//! ";
//! let catalog = Catalog::parse(yaml, "catalog.yaml")?;
//! let limits = catalog.plan_limits("basic").map(|limits| limits.len());
//! // The throttle and the quota; the daily quota also counts the daily usage.
//! assert_eq!(limits, Some(2));
//!
//! let error = Catalog::parse("version: 1\nplans: many", "catalog.yaml").err().unwrap();
//! assert_eq!(error.errors(), ["plans: expected a list at line 2, column 8"]);
//! # Ok::<(), tollgate::catalog::ValidationError>(())
//! ```

mod validation;
mod bounds;
mod options;
mod algorithms;
mod concurrency;
mod sizes;
mod models;
mod key_type;
mod new_keys;
pub mod raw;
mod shape;
mod file_lines;
mod file_owned;
mod limits;
mod meters;
mod route;
mod methods;
mod keys;
mod overrides;
mod key_policies;
mod plan_sets;
mod build;
mod counters;
mod request;
mod resolve;
mod policies;
mod access;
mod costs;
mod placement;
pub mod envoy;

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::HashMap;

use access::StageAccess;
use counters::LimitsByRow;
use key_type::KeyType;
use methods::MethodLimits;

use crate::digest::SecretDigest;
use crate::failure_policy::FailurePolicy;
use crate::inference::Pricing;
use crate::limit::{Limit, Subject};
pub use bounds::MAX_KEY_PLANS;
pub use build::CatalogFile;
pub use file_lines::FileLines;
pub use file_owned::FileOwned;
pub use key_policies::KeyPolicies;
pub use key_type::parse_address;
pub use keys::{ApiKey, parse_rfc3339};
pub use overrides::LimitOverrides;
pub use placement::CounterPlacement;
pub use policies::{CountedKey, PolicyView};
pub use request::{CheckRequest, Cost, CostView, PolicyKey, RequestView};
pub use resolve::{CheckError, ResolvedLimits};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use route::normalize_path;
pub use validation::{ValidationError, is_valid_name};

/// The YAML of the built-in example catalog.
pub const EXAMPLE: &str = include_str!("example.yaml");

/// A validated catalog: APIs with stages, plans, keys and policies. It does not change.
pub struct Catalog {
    revision: String,
    warnings: Vec<String>,
    file_owned: Arc<FileOwned>,
    apis: ByStage<StageLimits>,
    plans: HashMap<Arc<str>, Plan>,
    policies: HashMap<Arc<str>, Policy>,
    keys_by_digest: HashMap<SecretDigest, Arc<ApiKey>>,
    keys_by_id: HashMap<Arc<str>, Arc<ApiKey>>,
    units: BTreeSet<Arc<str>>,
    pricing: Pricing,
    limits_by_row: LimitsByRow,
    /// True if the gateway names the API keys of a stage's clients.
    has_gateway_keys: bool,
}

/// Values by the id of an API and the name of its stage.
type ByStage<T> = HashMap<Arc<str>, HashMap<Arc<str>, T>>;

/// The limits that all clients of a stage share, and the API keys that its methods need.
struct StageLimits {
    subject: Subject,
    /// The label of metrics for requests without an API key.
    label: Arc<str>,
    access: StageAccess,
    /// The limits of the whole stage, the throttle first.
    limits: Vec<Arc<Limit>>,
    methods: MethodLimits,
    /// True if a plan has limits for methods of this stage.
    has_methods_of_plans: bool,
}

/// A usage plan.
struct Plan {
    id: Arc<str>,
    limits: Arc<[Arc<Limit>]>,
    /// The stages that the plan serves, with its limits per method there; `None` serves all stages.
    stages: Option<ByStage<MethodLimits>>,
    /// True if a key may be on this plan beside another plan of the same stage.
    alongside: bool,
    on_store_failure: FailurePolicy,
}

impl Plan {
    fn serves(&self, api: &str, stage: &str) -> bool {
        self.stages.is_none() || self.methods(api, stage).is_some()
    }

    fn methods(&self, api: &str, stage: &str) -> Option<&MethodLimits> {
        self.stages.as_ref()?.get(api)?.get(stage)
    }
}

/// Limits that count whatever key a check request gives: an address, a user.
struct Policy {
    label: Arc<str>,
    key_type: KeyType,
    limits: Vec<Arc<Limit>>,
    /// The same limits for keys that have the policy. On a Redis Cluster they are charged ahead and
    /// refunded, so a refusal by them is not cached for long.
    key_limits: Vec<Arc<Limit>>,
    on_store_failure: FailurePolicy,
}

impl Policy {
    /// The subject that is counted for a key; `name` is the policy's.
    ///
    /// # Errors
    /// If the key is not of the policy's type.
    fn subject(&self, name: &str, key: &str) -> Result<Subject, &'static str> {
        Ok(Subject::policy(name, &self.key_type.normalize(key)?))
    }
}

impl Catalog {
    /// The built-in example; its API key is `demo-key`.
    #[must_use]
    pub fn example() -> Self {
        Self::parse(EXAMPLE, "the built-in example").unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// The revision: twelve hexadecimal digits of a digest of the catalog's text.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Warnings: declarations that are valid but look like a mistake.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The entries that the catalog file declares itself.
    #[must_use]
    pub fn file_owned(&self) -> &FileOwned {
        &self.file_owned
    }

    /// The numbers of APIs, plans, keys and policies, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let counts = [
            (self.apis.len(), "API"),
            (self.plans.len(), "plan"),
            (self.keys_by_id.len(), "key"),
            (self.policies.len(), "policy"),
        ];
        let each = counts.map(|(count, what)| match (count, what) {
            (1, what) => format!("1 {what}"),
            (_, "policy") => format!("{count} policies"),
            _ => format!("{count} {what}s"),
        });
        each.join(", ")
    }

    /// The API key whose value has this digest.
    #[must_use]
    pub fn key_by_digest(&self, digest: &SecretDigest) -> Option<&Arc<ApiKey>> {
        self.keys_by_digest.get(digest)
    }

    /// Returns true if there is a plan with this id.
    #[must_use]
    pub fn has_plan(&self, id: &str) -> bool {
        self.plans.contains_key(id)
    }

    /// The limits of a plan, its meters last; `None` if there is no such plan.
    #[must_use]
    pub fn plan_limits(&self, id: &str) -> Option<&Arc<[Arc<Limit>]>> {
        self.plans.get(id).map(|plan| &plan.limits)
    }

    /// The limits of a plan with the overrides of `key` applied; `None` if there is no such plan.
    #[must_use]
    pub fn plan_limits_for_key(&self, plan: &str, key: &ApiKey) -> Option<Arc<[Arc<Limit>]>> {
        let plan = self.plans.get(plan)?;
        Some(key.own_limits(self, plan).unwrap_or_else(|| Arc::clone(&plan.limits)))
    }

    /// The limits of a plan for single methods of its stages.
    pub fn method_limits(&self, plan: &str) -> impl Iterator<Item = &Arc<Limit>> {
        let stages = self.plans.get(plan).and_then(|plan| plan.stages.as_ref());
        let methods = stages.into_iter().flat_map(HashMap::values).flat_map(HashMap::values);
        methods.flat_map(MethodLimits::listed)
    }

    /// The API keys of the file.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<ApiKey>> {
        self.keys_by_id.values()
    }

    /// True if the policy counts IP addresses (`key_type: ip`); `None` if there is no such policy.
    #[must_use]
    pub fn counts_addresses(&self, policy: &str) -> Option<bool> {
        self.policies.get(policy).map(|policy| policy.key_type != KeyType::Text)
    }

    /// The API key with this id.
    #[must_use]
    pub fn key_by_id(&self, id: &str) -> Option<&Arc<ApiKey>> {
        self.keys_by_id.get(id)
    }

    /// The units for an error: the first in their order, and how many more there are.
    fn unit_names(&self) -> String {
        const MAX_NAMES: usize = 50;
        let first: Vec<&str> = self.units.iter().take(MAX_NAMES).map(|unit| &**unit).collect();
        let more = self.units.len() - first.len();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        first.join(", ") + &more
    }
}

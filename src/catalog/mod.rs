//! The catalog: everything that is declared, checked, and ready to be asked.
//!
//! As written (`raw`) becomes as valid (`build`, `limits`, `keys`) in one crossing. Nothing here
//! looks at a clock or a store.

mod validation;
mod options;
mod algorithms;
pub mod raw;
mod file_owned;
mod limits;
mod meters;
mod route;
mod methods;
mod keys;
mod overrides;
mod build;
mod request;
mod resolve;
mod placement;
pub mod envoy;

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::HashMap;

use methods::MethodLimits;

use crate::digest::KeyDigest;
use crate::failure_policy::OnStoreFailure;
use crate::limit::{Limit, Subject};
pub use build::CatalogFile;
pub use file_owned::FileOwned;
pub use keys::{ApiKey, parse_rfc3339};
pub use overrides::LimitOverrides;
pub use placement::CounterPlacement;
pub use request::{CheckRequest, Cost, PolicyKey};
pub use resolve::{CheckError, ResolvedLimits};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use route::normalize_path;
pub use validation::{ValidationError, is_valid_name};

/// The catalog that is built in.
pub const EXAMPLE: &str = include_str!("example.yaml");

/// Everything declared: APIs, stages, plans, keys and policies.
pub struct Catalog {
    revision: String,
    warnings: Vec<String>,
    file_owned: Arc<FileOwned>,
    apis: ByStage<StageLimits>,
    plans: HashMap<Arc<str>, Plan>,
    policies: HashMap<Arc<str>, Policy>,
    keys_by_digest: HashMap<KeyDigest, Arc<ApiKey>>,
    keys_by_id: HashMap<Arc<str>, Arc<ApiKey>>,
    units: BTreeSet<Arc<str>>,
}

/// By the API's id and the stage's name.
type ByStage<T> = HashMap<Arc<str>, HashMap<Arc<str>, T>>;

/// A stage of an API.
struct StageLimits {
    subject: Subject,
    throttle: Option<Arc<Limit>>,
    methods: MethodLimits,
}

/// A usage plan.
struct Plan {
    id: Arc<str>,
    limits: Arc<[Arc<Limit>]>,
    /// The stages that it serves, by API and name; all of them where absent.
    stages: Option<ByStage<MethodLimits>>,
    /// Whether a key may be on it beside other plans of the same stage.
    alongside: bool,
    on_store_failure: OnStoreFailure,
}

impl Plan {
    fn serves(&self, api: &str, stage: &str) -> bool {
        self.stages.is_none() || self.methods(api, stage).is_some()
    }

    fn methods(&self, api: &str, stage: &str) -> Option<&MethodLimits> {
        self.stages.as_ref()?.get(api)?.get(stage)
    }
}

/// Limits on whomever a caller names.
struct Policy {
    label: Arc<str>,
    limits: Vec<Arc<Limit>>,
    on_store_failure: OnStoreFailure,
}

impl Catalog {
    /// The built-in example; its API key is `demo-key`.
    #[must_use]
    pub fn example() -> Self {
        Self::parse(EXAMPLE, "the built-in example").unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// Twelve digits that tell this catalog's text from every other.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What is valid, but perhaps not meant.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What its text declares itself.
    #[must_use]
    pub fn file_owned(&self) -> &FileOwned {
        &self.file_owned
    }

    /// What is in it, in a line.
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

    /// The key whose secret value has this digest.
    #[must_use]
    pub fn key_by_digest(&self, digest: &KeyDigest) -> Option<&Arc<ApiKey>> {
        self.keys_by_digest.get(digest)
    }

    /// Whether there is a plan with this id.
    #[must_use]
    pub fn has_plan(&self, id: &str) -> bool {
        self.plans.contains_key(id)
    }

    /// The limits of a plan, its meters last; nothing where there is no such plan.
    #[must_use]
    pub fn plan_limits(&self, id: &str) -> Option<&Arc<[Arc<Limit>]>> {
        self.plans.get(id).map(|plan| &plan.limits)
    }

    /// A plan's limits in the sizes that `key` has, its meters last; `None` if there is no such plan.
    #[must_use]
    pub fn plan_limits_for_key(&self, plan: &str, key: &ApiKey) -> Option<Arc<[Arc<Limit>]>> {
        let plan = self.plans.get(plan)?;
        Some(key.own_limits(self, plan).unwrap_or_else(|| Arc::clone(&plan.limits)))
    }

    /// The limits that a plan has for single methods of its stages.
    pub fn method_limits(&self, plan: &str) -> impl Iterator<Item = &Arc<Limit>> {
        let stages = self.plans.get(plan).and_then(|plan| plan.stages.as_ref());
        let methods = stages.into_iter().flat_map(HashMap::values).flat_map(HashMap::values);
        methods.flat_map(MethodLimits::listed)
    }

    /// The keys of the file.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<ApiKey>> {
        self.keys_by_id.values()
    }

    /// The keys of the file that are on a plan.
    pub fn keys_on_plan(&self, plan: &str) -> impl Iterator<Item = &Arc<ApiKey>> {
        self.keys_by_id.values().filter(move |key| key.plans.iter().any(|id| **id == *plan))
    }

    /// Whether two plans serve the same stage, and neither stands alongside others, so that a key can
    /// only be on one of them.
    #[must_use]
    pub fn plans_conflict(&self, one: &str, other: &str) -> bool {
        let (Some(one), Some(other)) = (self.plans.get(one), self.plans.get(other)) else {
            return false;
        };
        if one.alongside || other.alongside {
            return false;
        }
        one.stages.is_none() && other.stages.is_none() || self.shared_stage(one, other).is_some()
    }

    /// A stage that both plans serve, and its API.
    fn shared_stage(&self, one: &Plan, other: &Plan) -> Option<(&Arc<str>, &Arc<str>)> {
        self.apis.iter().find_map(|(api, stages)| {
            let serve = |stage: &&Arc<str>| one.serves(api, stage) && other.serves(api, stage);
            stages.keys().find(serve).map(|stage| (api, stage))
        })
    }

    /// The key with this id.
    #[must_use]
    pub fn key_by_id(&self, id: &str) -> Option<&Arc<ApiKey>> {
        self.keys_by_id.get(id)
    }

    fn unit_names(&self) -> String {
        self.units.iter().map(|unit| &**unit).collect::<Vec<_>>().join(", ")
    }
}

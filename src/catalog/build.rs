//! Validation of a written catalog, and the construction of the [`Catalog`].
//!
//! All errors are reported at once, each with its path in the file and what to write instead. An
//! error of the YAML's form has a line and is reported alone. No message quotes a value: a catalog
//! may hold API keys in the clear.

use std::sync::Arc;

use foldhash::HashMap;
use sha2::{Digest as _, Sha256};

use super::access::StageAccess;
use super::bounds::{
    MAX_APIS, MAX_FILE_KEYS, MAX_LIMITS, MAX_PLANS, MAX_POLICIES, MAX_STAGES, check_count, numbered,
};
use super::key_type::KeyType;
use super::limits::LimitsBuilder;
use super::methods::MethodLimits;
use super::models::build_pricing;
use super::new_keys::build_new_keys;
use super::options::LimitOptions;
use super::plan_sets::PlanSets;
use super::raw::{RawApi, RawApiStage, RawCatalog, RawPlan, RawPolicy, RawStage};
use super::shape::all_faults;
use super::validation::{Report, ValidationError};
use super::{ByStage, Catalog, FileOwned, Plan, Policy, StageLimits, keys, meters};
use crate::algorithm::Counting as _;
use crate::failure_policy::FailurePolicy;
use crate::limit::{Limit, Subject, Unit};

/// A catalog file's contents, parsed once for all catalogs that are composed of it.
pub struct CatalogFile {
    raw: RawCatalog,
    owned: Arc<FileOwned>,
    /// The state of the revision's digest after the text.
    hasher: Sha256,
}

impl CatalogFile {
    /// Reads a file's text; `origin` is its name in errors.
    ///
    /// # Errors
    /// If the text is not YAML, or not of a catalog's form.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ValidationError> {
        let raw = RawCatalog::from_yaml(text).map_err(|fault| {
            let errors = all_faults(text, fault);
            ValidationError { origin: origin.into(), errors }
        })?;
        let owned = Arc::new(FileOwned::from_raw(&raw));
        Ok(Self { raw, owned, hasher: Sha256::new_with_prefix(text) })
    }

    /// The same contents of a file that was changed at this time, in seconds since 1970.
    #[must_use]
    pub fn changed_at(mut self, secs: u64) -> Self {
        if let Some(owned) = Arc::get_mut(&mut self.owned) {
            owned.changed = secs;
        }
        self
    }

    /// True if this is the text that the contents were read from.
    #[must_use]
    pub fn is_of(&self, text: &str) -> bool {
        self.hasher.clone().finalize() == Sha256::digest(text)
    }

    /// The number of its APIs.
    #[must_use]
    pub fn api_count(&self) -> usize {
        self.raw.apis.len()
    }

    /// The number of its plans.
    #[must_use]
    pub fn plan_count(&self) -> usize {
        self.raw.plans.len()
    }
}

impl Catalog {
    /// Reads a catalog from YAML. Errors begin with `origin`, such as the name of the file.
    ///
    /// # Errors
    /// If the text is not YAML, or the catalog is not valid.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ValidationError> {
        Self::compose(&CatalogFile::parse(text, origin)?, origin, None)
    }

    /// Composes a catalog of a file's entries and of those `declared` elsewhere.
    ///
    /// # Errors
    /// If an entry is not valid, or entries do not fit together. The indices in paths count the
    /// entries of the file first and then those of `declared`.
    pub fn compose(
        file: &CatalogFile,
        origin: &str,
        declared: Option<&RawCatalog>,
    ) -> Result<Self, ValidationError> {
        let mut report = Report::default();
        if file.raw.version != 1 {
            report.error(
                "version",
                "this version of Tollgate reads catalogs of version 1; write `version: 1`",
            );
        }
        let parts: Vec<&RawCatalog> = std::iter::once(&file.raw).chain(declared).collect();
        let mut catalog = build_catalog(&parts, &mut report);
        let (errors, warnings) = report.into_messages();
        if !errors.is_empty() {
            return Err(ValidationError { origin: origin.into(), errors });
        }
        catalog.warnings = warnings.iter().map(|warning| format!("{origin}: {warning}")).collect();
        catalog.file_owned = Arc::clone(&file.owned);
        catalog.revision = revision(file.hasher.clone(), declared);
        Ok(catalog)
    }
}

/// The first 48 bits of the SHA-256 of the file's text and of what is declared elsewhere, in
/// hexadecimal digits.
fn revision(mut hasher: Sha256, declared: Option<&RawCatalog>) -> String {
    if let Some(declared) = declared {
        hasher.update(serde_json::to_vec(declared).unwrap_or_default());
    }
    let digest = hasher.finalize();
    let bits = digest[..6].iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
    format!("{bits:012x}")
}

fn build_catalog(parts: &[&RawCatalog], report: &mut Report) -> Catalog {
    let pricing = build_pricing(parts, report);
    let mut catalog = Catalog {
        revision: String::new(),
        warnings: Vec::new(),
        file_owned: Arc::default(),
        apis: HashMap::default(),
        plans: HashMap::default(),
        policies: HashMap::default(),
        keys_by_digest: HashMap::default(),
        keys_by_id: HashMap::default(),
        units: Unit::BUILT_IN.into_iter().map(Arc::from).collect(),
        pricing,
        limits_by_row: HashMap::default(),
        has_gateway_keys: false,
    };
    let apis = parts.iter().map(|part| &*part.apis);
    for (at, api) in numbered("apis", apis, MAX_APIS, report) {
        add_api(&mut catalog, api, &at, report);
    }
    let plans = parts.iter().map(|part| &*part.plans);
    for (at, plan) in numbered("plans", plans, MAX_PLANS, report) {
        add_plan(&mut catalog, plan, &at, report);
    }
    let policies = parts.iter().map(|part| &*part.policies);
    for (at, policy) in numbered("policies", policies, MAX_POLICIES, report) {
        add_policy(&mut catalog, policy, &at, report);
    }
    let keys = parts.iter().map(|part| &*part.keys);
    let mut plan_sets = PlanSets::default();
    for (at, key) in numbered("keys", keys, MAX_FILE_KEYS, report) {
        keys::add_key(&mut catalog, &mut plan_sets, key, &at, report);
    }
    for unit in catalog.pricing.units().filter(|unit| !Unit::BUILT_IN.contains(&&***unit)) {
        if !catalog.units.contains(unit) {
            report.warning(&format!("units.{unit}"), "no limit counts this unit");
        }
    }
    catalog.units.extend(catalog.pricing.units().map(Arc::clone));
    check_count("limits", catalog.all_limits().count(), MAX_LIMITS, report);
    catalog.limits_by_row = catalog.index_limits();
    catalog
}

fn add_api(catalog: &mut Catalog, raw: &RawApi, at: &str, report: &mut Report) {
    let id = report.check_name(&format!("{at}.id"), &raw.id);
    let mut stages = HashMap::default();
    let declared = std::iter::once(&*raw.stages);
    for (at, stage) in numbered(&format!("{at}.stages"), declared, MAX_STAGES, report) {
        let (name, stage) = build_stage(&id, stage, &at, report);
        catalog.units.extend(stage.limits.iter().map(|limit| Arc::from(limit.unit().as_str())));
        catalog.has_gateway_keys |= stage.access.has_keys_from_gateway();
        if stages.insert(Arc::clone(&name), stage).is_some() {
            report.error(
                &format!("{at}.name"),
                format_args!("the stage `{name}` is there twice; keep one"),
            );
        }
    }
    if catalog.apis.insert(Arc::clone(&id), stages).is_some() {
        report.error(
            &format!("{at}.id"),
            format_args!("the api `{id}` is there twice; put its stages under one"),
        );
    }
}

fn build_stage(
    api: &str,
    raw: &RawStage,
    at: &str,
    report: &mut Report,
) -> (Arc<str>, StageLimits) {
    let name = report.check_name(&format!("{at}.name"), &raw.name);
    let prefix = format!("stage:{api}/{name}/");
    let defaults = LimitOptions {
        consistency: raw.consistency.unwrap_or_default(),
        ..LimitOptions::default()
    };
    let mut limits = LimitsBuilder::new(&prefix, defaults, at, report);
    let limits = limits.build_all(raw.throttle.as_ref(), None, &raw.limits);
    let methods = MethodLimits::build(&prefix, defaults, &raw.methods, at, report);
    let stage = StageLimits {
        subject: Subject::stage(api, &name),
        label: format!("stage:{api}/{name}").into(),
        access: StageAccess::build(&raw.access),
        limits,
        methods,
        has_methods_of_plans: false,
    };
    (name, stage)
}

fn add_plan(catalog: &mut Catalog, raw: &RawPlan, at: &str, report: &mut Report) {
    let id = report.check_name(&format!("{at}.id"), &raw.id);
    let defaults = LimitOptions {
        consistency: raw.consistency.unwrap_or_default(),
        mode: raw.mode.unwrap_or_default(),
        // The admin API resets, grants and refunds usage of plans.
        refundable: true,
        open_ended: false,
    };
    let prefix = format!("{id}/");
    let mut limits = LimitsBuilder::new(&prefix, defaults, at, report);
    let mut limits = limits.build_all(raw.throttle.as_ref(), raw.quota.as_ref(), &raw.limits);
    catalog.units.extend(limits.iter().map(|limit| Arc::from(limit.unit().as_str())));
    let stages = raw.api_stages.as_ref().map(|stages| {
        let mut served: ByStage<MethodLimits> = HashMap::default();
        let stages = std::iter::once(&**stages);
        for (at, stage) in numbered(&format!("{at}.api_stages"), stages, MAX_STAGES, report) {
            add_api_stage(catalog, &id, defaults, stage, &mut served, &at, report);
        }
        served
    });
    if limits.is_empty()
        && stages
            .iter()
            .flatten()
            .flat_map(|(_, stages)| stages.values())
            .all(MethodLimits::is_empty)
    {
        report.warning(at, format_args!("the plan `{id}` limits nothing"));
    }
    let counts_requests = |limit: &Arc<Limit>| {
        limit.unit().as_str() == Unit::REQUESTS && limit.algorithm().slot_ttl().is_none()
    };
    if limits.iter().any(|limit| limit.algorithm().slot_ttl().is_some())
        && !limits.iter().any(counts_requests)
    {
        report.warning(at, format_args!("the plan `{id}` has reservations and no limit of requests: a client that opens and never settles takes 280 bytes for each until 10 minutes after its ttl; give it a throttle"));
    }
    meters::add_meters(&id, &mut limits);
    let plan = Plan {
        id: Arc::clone(&id),
        limits: limits.into(),
        stages,
        alongside: raw.alongside,
        on_store_failure: raw.on_store_failure.unwrap_or_default(),
    };
    if catalog.plans.insert(Arc::clone(&id), plan).is_some() {
        report
            .error(&format!("{at}.id"), format_args!("the plan `{id}` is there twice; rename one"));
    }
}

fn add_api_stage(
    catalog: &mut Catalog,
    plan: &str,
    defaults: LimitOptions,
    raw: &RawApiStage,
    served: &mut ByStage<MethodLimits>,
    at: &str,
    report: &mut Report,
) {
    let RawApiStage { api, stage, methods } = raw;
    match catalog.apis.get(&**api) {
        None => report.error(
            &format!("{at}.api"),
            format_args!("there is no api `{api}`; declare it under `apis`"),
        ),
        Some(stages) if !stages.contains_key(&**stage) => {
            report.error(
                &format!("{at}.stage"),
                format_args!(
                    "the api `{api}` has no stage `{stage}`; declare it under its `stages`"
                ),
            );
        }
        Some(_) => {}
    }
    let prefix = format!("{plan}/{api}/{stage}/");
    let methods = MethodLimits::build(&prefix, defaults, methods, at, report);
    let declared = catalog.apis.get_mut(&**api).and_then(|stages| stages.get_mut(&**stage));
    if let Some(declared) = declared {
        declared.has_methods_of_plans |= !methods.is_empty();
    }
    if served
        .entry(api.as_str().into())
        .or_default()
        .insert(stage.as_str().into(), methods)
        .is_some()
    {
        report.error(at, "this stage is there twice; put all its methods under one");
    }
}

fn add_policy(catalog: &mut Catalog, raw: &RawPolicy, at: &str, report: &mut Report) {
    let name = report.check_name(&format!("{at}.name"), &raw.name);
    let label: Arc<str> = format!("policy:{name}").into();
    let defaults = LimitOptions {
        consistency: raw.consistency,
        mode: raw.mode,
        refundable: false,
        open_ended: true,
    };
    let key_type = KeyType::from_raw(raw, at, report);
    let prefix = format!("{label}/");
    let mut limits = LimitsBuilder::new(&prefix, defaults, at, report);
    let limits = limits.build_all(raw.throttle.as_ref(), raw.quota.as_ref(), &raw.limits);
    catalog.units.extend(limits.iter().map(|limit| Arc::from(limit.unit().as_str())));
    if raw.throttle.is_none() && raw.quota.is_none() && raw.limits.is_empty() {
        report.error(
            at,
            format_args!(
                "the policy `{name}` limits nothing; give it a throttle, a quota or limits"
            ),
        );
    }
    let new_keys = build_new_keys(raw, &label, at, report);
    let with_new_keys = |limit: &Arc<Limit>| match &new_keys {
        Some(new) => {
            Arc::new(limit.resized(limit.algorithm().clone()).with_new_subjects(Arc::clone(new)))
        }
        None => Arc::clone(limit),
    };
    let limits: Vec<Arc<Limit>> = limits.iter().map(with_new_keys).collect();
    let key_limits = limits.iter().map(limit_of_key).collect();
    // A policy that refuses nothing must not refuse while the store is unreachable either.
    let shadow = limits.iter().all(|limit| limit.shadow());
    let on_store_failure = if shadow { FailurePolicy::Open } else { raw.on_store_failure };
    let policy = Policy { label, key_type, limits, key_limits, on_store_failure };
    if catalog.policies.insert(Arc::clone(&name), policy).is_some() {
        report.error(
            &format!("{at}.name"),
            format_args!("the policy `{name}` is there twice; rename one"),
        );
    }
}

/// A policy's limit for keys that have the policy, which declare its subject. One that is leased is
/// refunded already, and stays the same value: leases are of one.
fn limit_of_key(limit: &Arc<Limit>) -> Arc<Limit> {
    if limit.refundable() {
        return Arc::clone(limit);
    }
    Arc::new(limit.resized(limit.algorithm().clone()).as_declared().as_refundable())
}

//! From a catalog as written to one that is valid: the only crossing.
//!
//! All errors are found at once, each with its path in the file and what to write instead. Faults
//! of the YAML itself have a line; no message ever quotes the file, where keys stand in the clear.

use std::sync::Arc;

use foldhash::HashMap;
use sha2::{Digest as _, Sha256};

use super::limits::LimitsBuilder;
use super::methods::MethodLimits;
use super::options::LimitOptions;
use super::raw::{RawApi, RawApiStage, RawCatalog, RawPlan, RawPolicy, RawStage};
use super::validation::{Report, ValidationError};
use super::{ByStage, Catalog, FileOwned, Plan, Policy, StageLimits, keys, meters};
use crate::failure_policy::OnStoreFailure;
use crate::limit::{Subject, Unit};
use crate::syntax;

impl Catalog {
    /// Reads a catalog; `origin` is what errors call the text.
    ///
    /// # Errors
    /// Where the text is no YAML, or says what cannot be.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ValidationError> {
        Self::compose(text, origin, None)
    }

    /// Reads a catalog of which another part was declared elsewhere, in the same members.
    ///
    /// # Errors
    /// Where the text is no YAML, or the two say what cannot be, each or together. Entries are
    /// counted through both, the text's first.
    pub fn compose(
        text: &str,
        origin: &str,
        declared: Option<&serde_json::Value>,
    ) -> Result<Self, ValidationError> {
        let invalid = |fault| ValidationError { origin: origin.into(), errors: vec![fault] };
        let mut raw: RawCatalog = syntax::from_yaml(text, true).map_err(invalid)?;
        let file_owned = FileOwned::from_raw(&raw);
        if let Some(declared) = declared {
            raw.extend(syntax::from_json(declared).map_err(invalid)?);
        }
        let mut report = Report::default();
        if raw.version != 1 {
            report.error(
                "version",
                "this version of Tollgate reads catalogs of version 1; write `version: 1`",
            );
        }
        let mut catalog = build_catalog(raw, &mut report);
        if !report.errors.is_empty() {
            return Err(ValidationError { origin: origin.into(), errors: report.errors });
        }
        catalog.warnings =
            report.warnings.iter().map(|warning| format!("{origin}: {warning}")).collect();
        catalog.file_owned = file_owned;
        catalog.revision = revision(text, declared);
        Ok(catalog)
    }
}

/// The first 48 bits of the SHA-256 of all that was read.
fn revision(text: &str, declared: Option<&serde_json::Value>) -> String {
    let mut hasher = Sha256::new_with_prefix(text);
    if let Some(declared) = declared {
        hasher.update(declared.to_string());
    }
    let digest = hasher.finalize();
    let bits = digest[..6].iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
    format!("{bits:012x}")
}

fn build_catalog(raw: RawCatalog, report: &mut Report) -> Catalog {
    let mut catalog = Catalog {
        revision: String::new(),
        warnings: Vec::new(),
        file_owned: FileOwned::default(),
        apis: HashMap::default(),
        plans: HashMap::default(),
        policies: HashMap::default(),
        keys_by_digest: HashMap::default(),
        keys_by_id: HashMap::default(),
        units: Unit::BUILT_IN.into_iter().map(Arc::from).collect(),
    };
    for (index, api) in raw.apis.into_iter().enumerate() {
        add_api(&mut catalog, api, &format!("apis[{index}]"), report);
    }
    for (index, plan) in raw.plans.into_iter().enumerate() {
        add_plan(&mut catalog, plan, &format!("plans[{index}]"), report);
    }
    for (index, policy) in raw.policies.iter().enumerate() {
        add_policy(&mut catalog, policy, &format!("policies[{index}]"), report);
    }
    for (index, key) in raw.keys.into_iter().enumerate() {
        keys::add_key(&mut catalog, key, &format!("keys[{index}]"), report);
    }
    catalog
}

fn add_api(catalog: &mut Catalog, raw: RawApi, at: &str, report: &mut Report) {
    let id = report.check_name(&format!("{at}.id"), &raw.id);
    let mut stages = HashMap::default();
    for (index, stage) in raw.stages.into_iter().enumerate() {
        let at = format!("{at}.stages[{index}]");
        let (name, stage) = build_stage(&id, stage, &at, report);
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

fn build_stage(api: &str, raw: RawStage, at: &str, report: &mut Report) -> (Arc<str>, StageLimits) {
    let name = report.check_name(&format!("{at}.name"), &raw.name);
    let prefix = format!("stage:{api}/{name}/");
    let defaults = LimitOptions { consistency: raw.consistency, ..LimitOptions::default() };
    let mut limits = LimitsBuilder::new(&prefix, defaults, at, report);
    let throttle = raw.throttle.and_then(|throttle| limits.build_throttle(&throttle));
    let methods = MethodLimits::build(&prefix, defaults, raw.methods, at, report);
    let stage = StageLimits { subject: Subject::stage(api, &name), throttle, methods };
    (name, stage)
}

fn add_plan(catalog: &mut Catalog, raw: RawPlan, at: &str, report: &mut Report) {
    let id = report.check_name(&format!("{at}.id"), &raw.id);
    let defaults = LimitOptions {
        consistency: raw.consistency,
        mode: raw.mode,
        // The admin API resets, grants and refunds units of them.
        refundable: true,
    };
    let prefix = format!("{id}/");
    let mut limits = LimitsBuilder::new(&prefix, defaults, at, report);
    let mut limits = limits.build_all(raw.throttle.as_ref(), raw.quota.as_ref(), &raw.limits);
    catalog.units.extend(limits.iter().map(|limit| Arc::from(limit.unit().as_str())));
    let stages = raw.api_stages.map(|stages| {
        let mut served: ByStage<MethodLimits> = HashMap::default();
        for (index, stage) in stages.into_iter().enumerate() {
            let at = format!("{at}.api_stages[{index}]");
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
    meters::add_meters(&id, &mut limits);
    let plan = Plan {
        id: Arc::clone(&id),
        limits: limits.into(),
        stages,
        alongside: raw.alongside,
        on_store_failure: raw.on_store_failure,
    };
    if catalog.plans.insert(Arc::clone(&id), plan).is_some() {
        report
            .error(&format!("{at}.id"), format_args!("the plan `{id}` is there twice; rename one"));
    }
}

fn add_api_stage(
    catalog: &Catalog,
    plan: &str,
    defaults: LimitOptions,
    raw: RawApiStage,
    served: &mut ByStage<MethodLimits>,
    at: &str,
    report: &mut Report,
) {
    let RawApiStage { api, stage, methods } = raw;
    match catalog.apis.get(&*api) {
        None => report.error(
            &format!("{at}.api"),
            format_args!("there is no api `{api}`; declare it under `apis`"),
        ),
        Some(stages) if !stages.contains_key(&*stage) => {
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
    if served.entry(api.into()).or_default().insert(stage.into(), methods).is_some() {
        report.error(at, "this stage is there twice; put all its methods under one");
    }
}

fn add_policy(catalog: &mut Catalog, raw: &RawPolicy, at: &str, report: &mut Report) {
    let name = report.check_name(&format!("{at}.name"), &raw.name);
    let label: Arc<str> = format!("policy:{name}").into();
    let defaults =
        LimitOptions { consistency: raw.consistency, mode: raw.mode, ..LimitOptions::default() };
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
    // What refuses nothing must not refuse when the store is lost either.
    let shadow = limits.iter().all(|limit| limit.shadow());
    let on_store_failure = if shadow { OnStoreFailure::Open } else { raw.on_store_failure };
    if catalog
        .policies
        .insert(Arc::clone(&name), Policy { label, limits, on_store_failure })
        .is_some()
    {
        report.error(
            &format!("{at}.name"),
            format_args!("the policy `{name}` is there twice; rename one"),
        );
    }
}

//! From a catalog as written to one that is valid: the only crossing.
//!
//! All faults are found at once, each with its path in the file and what to write instead. Faults
//! of the YAML itself have a line; no message ever quotes the file, where keys stand in the clear.

use std::sync::Arc;

use foldhash::HashMap;
use sha2::{Digest as _, Sha256};

use super::findings::{Findings, Invalid};
use super::limits::{Defaults, Limits};
use super::written::{
    WrittenApi, WrittenApiStage, WrittenCatalog, WrittenMethods, WrittenPlan, WrittenPolicy,
    WrittenStage,
};
use super::{
    ByStage, Catalog, Filed, Methods, OnStoreFailure, Other, Plan, Policy, Stage, keys, meters,
    path::Pattern,
};
use crate::limit::{Subject, Unit};

impl Catalog {
    /// Reads a catalog; `origin` is what errors call the text.
    ///
    /// # Errors
    /// Where the text is no YAML, or says what cannot be.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Invalid> {
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
    ) -> Result<Self, Invalid> {
        let invalid = |fault| Invalid { origin: origin.into(), faults: vec![fault] };
        let mut written = WrittenCatalog::from_yaml(text).map_err(invalid)?;
        let filed = Filed::of(&written);
        if let Some(declared) = declared {
            written.extend(WrittenCatalog::from_json(declared).map_err(invalid)?);
        }
        let mut findings = Findings::default();
        if written.version != 1 {
            findings.fault(
                "version",
                "this version of Tollgate reads catalogs of version 1; write `version: 1`",
            );
        }
        let mut catalog = read(written, &mut findings);
        if !findings.faults.is_empty() {
            return Err(Invalid { origin: origin.into(), faults: findings.faults });
        }
        catalog.warnings =
            findings.warnings.iter().map(|warning| format!("{origin}: {warning}")).collect();
        catalog.filed = filed;
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

fn read(written: WrittenCatalog, findings: &mut Findings) -> Catalog {
    let mut catalog = Catalog {
        revision: String::new(),
        warnings: Vec::new(),
        filed: Filed::default(),
        apis: HashMap::default(),
        plans: HashMap::default(),
        policies: HashMap::default(),
        keys_by_digest: HashMap::default(),
        keys_by_id: HashMap::default(),
        units: Unit::BUILT_IN.into_iter().map(Arc::from).collect(),
    };
    for (index, api) in written.apis.into_iter().enumerate() {
        read_api(&mut catalog, api, &format!("apis[{index}]"), findings);
    }
    for (index, plan) in written.plans.into_iter().enumerate() {
        read_plan(&mut catalog, plan, &format!("plans[{index}]"), findings);
    }
    for (index, policy) in written.policies.iter().enumerate() {
        read_policy(&mut catalog, policy, &format!("policies[{index}]"), findings);
    }
    for (index, key) in written.keys.into_iter().enumerate() {
        keys::read(&mut catalog, key, &format!("keys[{index}]"), findings);
    }
    catalog
}

fn read_api(catalog: &mut Catalog, written: WrittenApi, at: &str, findings: &mut Findings) {
    let id = findings.name(&format!("{at}.id"), &written.id);
    let mut stages = HashMap::default();
    for (index, stage) in written.stages.into_iter().enumerate() {
        let at = format!("{at}.stages[{index}]");
        let (name, stage) = read_stage(catalog, &id, stage, &at, findings);
        if stages.insert(Arc::clone(&name), stage).is_some() {
            findings.fault(
                &format!("{at}.name"),
                format_args!("the stage `{name}` is there twice; keep one"),
            );
        }
    }
    if catalog.apis.insert(Arc::clone(&id), stages).is_some() {
        findings.fault(
            &format!("{at}.id"),
            format_args!("the api `{id}` is there twice; put its stages under one"),
        );
    }
}

fn read_stage(
    catalog: &mut Catalog,
    api: &str,
    written: WrittenStage,
    at: &str,
    findings: &mut Findings,
) -> (Arc<str>, Stage) {
    let name = findings.name(&format!("{at}.name"), &written.name);
    let prefix = format!("stage:{api}/{name}/");
    let defaults = Defaults { consistency: written.consistency, ..Defaults::default() };
    let mut limits = Limits::new(&prefix, defaults, at, findings);
    let throttle = written.throttle.and_then(|throttle| limits.throttle(&throttle));
    let methods = read_methods(catalog, &prefix, defaults, written.methods, at, findings);
    let stage = Stage { subject: Subject::stage(api, &name), throttle, methods };
    (name, stage)
}

fn read_methods(
    catalog: &mut Catalog,
    prefix: &str,
    defaults: Defaults,
    written: WrittenMethods,
    at: &str,
    findings: &mut Findings,
) -> Methods {
    let mut methods = Methods::default();
    for (method, limits) in written {
        let at = format!("{at}.methods[{method}]");
        let name =
            format!("{prefix}{}/", method.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        let limit = Limits::new(&name, defaults, &at, findings).throttle(&limits.throttle);
        let Some(limit) = limit else { continue };
        catalog.units.insert(limit.unit().as_str().into());
        if method == "*" {
            methods.other = Some(Other { limit, prefix: prefix.to_owned() });
            continue;
        }
        match Pattern::parse(&method) {
            Err(why) => findings.fault(&at, why),
            Ok(pattern) if methods.listed.iter().any(|(other, _)| *other == pattern) => {
                findings.fault(&at, "another entry matches exactly the same; keep one");
            }
            Ok(pattern) => methods.listed.push((pattern, limit)),
        }
    }
    methods.listed.sort_by(|(one, _), (other, _)| one.cmp_preference(other));
    methods
}

fn read_plan(catalog: &mut Catalog, written: WrittenPlan, at: &str, findings: &mut Findings) {
    let id = findings.name(&format!("{at}.id"), &written.id);
    let defaults = Defaults {
        consistency: written.consistency,
        mode: written.mode,
        // Operators reset them, and grant and refund units.
        corrected: true,
    };
    let prefix = format!("{id}/");
    let mut limits = Limits::new(&prefix, defaults, at, findings);
    let mut limits = limits.all(written.throttle.as_ref(), written.quota.as_ref(), &written.limits);
    catalog.units.extend(limits.iter().map(|limit| Arc::from(limit.unit().as_str())));
    let stages = written.api_stages.map(|stages| {
        let mut served: ByStage<Methods> = HashMap::default();
        for (index, stage) in stages.into_iter().enumerate() {
            let at = format!("{at}.api_stages[{index}]");
            read_api_stage(catalog, &id, defaults, stage, &mut served, &at, findings);
        }
        served
    });
    if limits.is_empty()
        && stages.iter().flatten().flat_map(|(_, stages)| stages.values()).all(Methods::is_empty)
    {
        findings.warning(at, format_args!("the plan `{id}` limits nothing"));
    }
    meters::add(&id, &mut limits);
    let plan = Plan {
        id: Arc::clone(&id),
        limits: limits.into(),
        stages,
        alongside: written.alongside,
        on_store_failure: written.on_store_failure,
    };
    if catalog.plans.insert(Arc::clone(&id), plan).is_some() {
        findings
            .fault(&format!("{at}.id"), format_args!("the plan `{id}` is there twice; rename one"));
    }
}

fn read_api_stage(
    catalog: &mut Catalog,
    plan: &str,
    defaults: Defaults,
    written: WrittenApiStage,
    served: &mut ByStage<Methods>,
    at: &str,
    findings: &mut Findings,
) {
    let WrittenApiStage { api, stage, methods } = written;
    match catalog.apis.get(&*api) {
        None => findings.fault(
            &format!("{at}.api"),
            format_args!("there is no api `{api}`; declare it under `apis`"),
        ),
        Some(stages) if !stages.contains_key(&*stage) => {
            findings.fault(
                &format!("{at}.stage"),
                format_args!(
                    "the api `{api}` has no stage `{stage}`; declare it under its `stages`"
                ),
            );
        }
        Some(_) => {}
    }
    let prefix = format!("{plan}/{api}/{stage}/");
    let methods = read_methods(catalog, &prefix, defaults, methods, at, findings);
    if served.entry(api.into()).or_default().insert(stage.into(), methods).is_some() {
        findings.fault(at, "this stage is there twice; put all its methods under one");
    }
}

fn read_policy(catalog: &mut Catalog, written: &WrittenPolicy, at: &str, findings: &mut Findings) {
    let name = findings.name(&format!("{at}.name"), &written.name);
    let label: Arc<str> = format!("policy:{name}").into();
    let defaults =
        Defaults { consistency: written.consistency, mode: written.mode, ..Defaults::default() };
    let prefix = format!("{label}/");
    let mut limits = Limits::new(&prefix, defaults, at, findings);
    let limits = limits.all(written.throttle.as_ref(), written.quota.as_ref(), &written.limits);
    catalog.units.extend(limits.iter().map(|limit| Arc::from(limit.unit().as_str())));
    if written.throttle.is_none() && written.quota.is_none() && written.limits.is_empty() {
        findings.fault(
            at,
            format_args!(
                "the policy `{name}` limits nothing; give it a throttle, a quota or limits"
            ),
        );
    }
    // What refuses nothing must not refuse when the store is lost either.
    let shadow = limits.iter().all(|limit| limit.shadow());
    let on_store_failure = if shadow { OnStoreFailure::Open } else { written.on_store_failure };
    if catalog
        .policies
        .insert(Arc::clone(&name), Policy { label, limits, on_store_failure })
        .is_some()
    {
        findings.fault(
            &format!("{at}.name"),
            format_args!("the policy `{name}` is there twice; rename one"),
        );
    }
}

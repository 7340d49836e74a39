//! What a catalog file wants against what a service declares: the changes that lead from one to the
//! other, each with the calls that make it.
//!
//! Both are compared as the service itself writes its catalog, so that what was applied differs no more.

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::NoAnswer;
use super::admin::{Admin, encoded};
use super::export::strange;
use super::wanted::{Wanted, WantedStage, escaped, set};
use crate::control::{self, Document, Patch, Stage, UsagePlan, WantedPlan};

/// A change of one thing.
pub(super) struct Change {
    /// `+`, `~` or `-`.
    pub(super) sign: char,
    /// Which thing, as in `plan basic`.
    pub(super) what: String,
    /// It before and after; null where there is none.
    pub(super) sides: [Value; 2],
    /// What makes it, in this order.
    pub(super) calls: Vec<Call>,
}

/// A call of the admin API.
pub(super) struct Call(pub(super) Method, pub(super) String, pub(super) Option<Value>);

impl Call {
    fn post(path: String, body: Value) -> Self {
        Self(Method::POST, path, Some(body))
    }

    fn patch(path: String, operations: &[Value]) -> Self {
        Self(Method::PATCH, path, Some(json!({ "patchOperations": operations })))
    }

    fn delete(path: String) -> Self {
        Self(Method::DELETE, path, None)
    }
}

/// All changes, in an order in which they can be made: what is named comes before what names it.
pub(super) async fn between(
    admin: &Admin,
    wanted: &Wanted,
    declared: &Document,
) -> Result<Vec<Change>, NoAnswer> {
    let mut changes = Vec::new();
    let mut apis: BTreeSet<&str> = declared.rest_apis.keys().map(String::as_str).collect();
    for stage in &wanted.stages {
        changes.extend(stage_change(stage, declared, apis.insert(&stage.api))?);
    }
    let mut plans = BTreeSet::new();
    for plan in &wanted.plans {
        let id = plan["name"].as_str().unwrap_or_default();
        plans.insert(id);
        changes.extend(plan_change(id, plan, declared.usage_plans.get(id))?);
    }
    for (key, plans) in &wanted.keys {
        changes.extend(key_change(admin, key, plans).await?);
    }
    let removed = |what: String, path: String, was: Value| Change {
        sign: '-',
        what,
        sides: [was, Value::Null],
        calls: vec![Call::delete(path)],
    };
    for (id, plan) in declared.usage_plans.iter().filter(|(id, _)| !plans.contains(&***id)) {
        let was = plan.declare().map_err(strange)?;
        changes.push(removed(format!("plan {id}"), format!("/usageplans/{}", encoded(id)), was));
    }
    for (id, api) in &declared.rest_apis {
        for (name, stage) in &api.stages {
            if !wanted.stages.iter().any(|stage| stage.api == *id && stage.name == *name) {
                let was = stage.declare().map_err(strange)?;
                changes.push(removed(format!("stage {id}/{name}"), stage_path(id, name), was));
            }
        }
    }
    Ok(changes)
}

fn stage_path(api: &str, name: &str) -> String {
    format!("/restapis/{}/stages/{}", encoded(api), encoded(name))
}

/// An error where the file says what the API would refuse.
fn refused(what: &str) -> impl Fn(control::Error) -> NoAnswer + '_ {
    move |why| NoAnswer::Unsaid(what.into(), why.to_string())
}

fn stage_change(
    wanted: &WantedStage,
    declared: &Document,
    new_api: bool,
) -> Result<Option<Change>, NoAnswer> {
    let WantedStage { api, name, operations } = wanted;
    let what = format!("stage {api}/{name}");
    let mut stage = Stage::new(control::WantedStage::new(name.clone(), String::new(), None));
    let patch = json!({ "patchOperations": operations });
    let patch: Patch = serde_json::from_value(patch).map_err(strange)?;
    stage.patch(&patch).map_err(refused(&what))?;
    let to = stage.declare().map_err(refused(&what))?;
    let is = declared.rest_apis.get(api).and_then(|api| api.stages.get(name));
    let mut calls = Vec::new();
    let mut all = Vec::new();
    if let Some(is) = is {
        all = no_more(&json!(is), operations);
    } else {
        if new_api {
            let body = json!({ "name": api, "tags": { "_custom_id_": api } });
            calls.push(Call::post("/restapis".into(), body));
        }
        let deployments = format!("/restapis/{}/deployments", encoded(api));
        calls.push(Call::post(deployments, json!({ "stageName": name })));
    }
    all.extend(operations.iter().cloned());
    if !all.is_empty() {
        calls.push(Call::patch(stage_path(api, name), &all));
    }
    let from = is.map_or(Ok(Value::Null), |is| is.declare().map_err(strange))?;
    Ok(changed(what, from, to, calls))
}

/// What takes away the throttles and the consistency that a stage has and these operations do not set.
/// Other settings of its methods stay.
fn no_more(is: &Value, operations: &[Value]) -> Vec<Value> {
    let sets = |path: &str| {
        let below = format!("{path}/");
        operations.iter().any(|set| set["path"].as_str().is_some_and(|set| set.starts_with(&below)))
    };
    let mut less = Vec::new();
    if !is["consistency"].is_null() && operations.iter().all(|set| set["path"] != "/consistency") {
        less.push(json!({ "op": "remove", "path": "/consistency" }));
    }
    if !is["throttle"].is_null() && !sets("/throttle") {
        less.push(json!({ "op": "remove", "path": "/throttle" }));
    }
    for (method, settings) in is["methodSettings"].as_object().into_iter().flatten() {
        let path = format!("/{method}/throttling");
        if !settings["throttlingRateLimit"].is_null() && !sets(&path) {
            less.push(set(&format!("{path}/rateLimit"), "-1"));
        }
    }
    less
}

fn changed(what: String, from: Value, to: Value, calls: Vec<Call>) -> Option<Change> {
    let sign = if from.is_null() { '+' } else { '~' };
    (from != to).then_some(Change { sign, what, sides: [from, to], calls })
}

fn plan_change(
    id: &str,
    wanted: &Value,
    is: Option<&UsagePlan>,
) -> Result<Option<Change>, NoAnswer> {
    let what = format!("plan {id}");
    let plan: WantedPlan = serde_json::from_value(wanted.clone()).map_err(strange)?;
    let plan = UsagePlan::new(plan).and_then(|plan| plan.declare()).map_err(refused(&what))?;
    let Some(is) = is else {
        let create = Call::post("/usageplans".into(), wanted.clone());
        return Ok(changed(what, Value::Null, plan, vec![create]));
    };
    let operations = become_plan(&json!(is), wanted);
    let calls = vec![Call::patch(format!("/usageplans/{}", encoded(id)), &operations)];
    Ok(changed(what, is.declare().map_err(strange)?, plan, calls))
}

/// The operations by which a plan becomes another.
fn become_plan(is: &Value, wanted: &Value) -> Vec<Value> {
    let remove = |path: &str| json!({ "op": "remove", "path": path });
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let members = |of: &Value| of.as_object().cloned().unwrap_or_default();
    let mut operations = Vec::new();
    for member in ["throttle", "quota"] {
        operations.push(remove(&format!("/{member}")));
        for (name, value) in members(&wanted[member]) {
            operations.push(set(&format!("/{member}/{name}"), &plain(&value)));
        }
    }
    for member in ["limits", "onStoreFailure", "consistency", "mode", "alongside"] {
        let path = format!("/{member}");
        let value = wanted.get(member);
        operations.push(value.map_or_else(|| remove(&path), |value| set(&path, &plain(value))));
    }
    let stages = |of: &Value| of["apiStages"].as_array().cloned().unwrap_or_default();
    let named = |stage: &Value| format!("{}:{}", plain(&stage["apiId"]), plain(&stage["stage"]));
    for stage in stages(is) {
        let value = named(&stage);
        operations.push(json!({ "op": "remove", "path": "/apiStages", "value": value }));
    }
    for stage in stages(wanted) {
        operations.push(set("/apiStages", &named(&stage)));
        for (method, throttle) in members(&stage["throttle"]) {
            let (path, method) = method.rsplit_once('/').unwrap_or_default();
            let at = format!("/apiStages/{}/throttle/{}/{method}", named(&stage), escaped(path));
            for (name, value) in members(&throttle) {
                operations.push(set(&format!("{at}/{name}"), &plain(&value)));
            }
        }
    }
    operations
}

/// A key's members and its plans. Its value is not told, and so is not compared.
async fn key_change(
    admin: &Admin,
    wanted: &Value,
    plans: &[String],
) -> Result<Option<Change>, NoAnswer> {
    const MEMBERS: [&str; 5] = ["name", "enabled", "customerId", "expiresAt", "overrides"];
    let id = wanted["tags"]["_custom_id_"].as_str().unwrap_or_default();
    let path = format!("/apikeys/{}", encoded(id));
    let is = there(admin, &path).await?;
    let (mut calls, mut missing) = (Vec::new(), Vec::new());
    for plan in plans {
        let links = format!("/usageplans/{}/keys", encoded(plan));
        if there(admin, &format!("{links}/{}", encoded(id))).await?.is_none() {
            missing.push(plan.as_str());
            calls.push(Call::post(links, json!({ "keyId": id, "keyType": "API_KEY" })));
        }
    }
    // Only what the file says of it: what it does not say may stay.
    let said = MEMBERS.into_iter().filter(|member| wanted.get(member).is_some());
    let told = |of: &Value| -> Map<String, Value> {
        said.clone().map(|member| (member.to_owned(), of[member].clone())).collect()
    };
    let mut to = told(wanted);
    to.insert("plans".into(), json!(plans));
    let Some(is) = is else {
        calls.insert(0, Call::post("/apikeys".into(), wanted.clone()));
        return Ok(changed(format!("key {id}"), Value::Null, to.into(), calls));
    };
    let mut from = told(&is);
    let on: Vec<_> = plans.iter().filter(|plan| !missing.contains(&plan.as_str())).collect();
    from.insert("plans".into(), json!(on));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let differing = said.filter(|member| wanted[*member] != is[*member]);
    let operations: Vec<Value> =
        differing.map(|member| set(&format!("/{member}"), &text(&wanted[member]))).collect();
    if !operations.is_empty() {
        calls.insert(0, Call::patch(path, &operations));
    }
    Ok(changed(format!("key {id}"), from.into(), to.into(), calls))
}

/// What is there, if anything is.
async fn there(admin: &Admin, path: &str) -> Result<Option<Value>, NoAnswer> {
    match admin.get(path).await {
        Ok(there) => Ok(Some(there)),
        Err(NoAnswer::Refused(StatusCode::NOT_FOUND, _)) => Ok(None),
        Err(error) => Err(error),
    }
}

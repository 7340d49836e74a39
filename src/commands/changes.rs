//! What a catalog file wants against what a service declares: the changes that lead from one to the
//! other, each with the calls that make it.
//!
//! Both are compared as the service itself writes its catalog, so that what was applied differs no more.

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};
use super::desired::{DesiredStage, DesiredState, escape_pointer, set_operation};
use super::export::unexpected_response;
use crate::control::{self, Document, Patch, PlanSpec, Stage, UsagePlan};

/// A change of one thing.
pub(super) struct ResourceChange {
    /// `+`, `~` or `-`.
    pub(super) sign: char,
    /// Which thing, as in `plan basic`.
    pub(super) what: String,
    /// It before and after; null where there is none.
    pub(super) sides: [Value; 2],
    /// What makes it, in this order.
    pub(super) calls: Vec<ApiCall>,
}

/// A call of the admin API.
pub(super) struct ApiCall(pub(super) Method, pub(super) String, pub(super) Option<Value>);

impl ApiCall {
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
pub(super) async fn diff_resources(
    admin: &AdminClient,
    desired: &DesiredState,
    declared: &Document,
) -> Result<Vec<ResourceChange>, CommandError> {
    let mut changes = Vec::new();
    let mut apis: BTreeSet<&str> = declared.rest_apis.keys().map(String::as_str).collect();
    for stage in &desired.stages {
        changes.extend(stage_change(stage, declared, apis.insert(&stage.api))?);
    }
    let mut plans = BTreeSet::new();
    for plan in &desired.plans {
        let id = plan["name"].as_str().unwrap_or_default();
        plans.insert(id);
        changes.extend(plan_change(id, plan, declared.usage_plans.get(id))?);
    }
    for (key, plans) in &desired.keys {
        changes.extend(key_change(admin, key, plans).await?);
    }
    let removed = |what: String, path: String, was: Value| ResourceChange {
        sign: '-',
        what,
        sides: [was, Value::Null],
        calls: vec![ApiCall::delete(path)],
    };
    for (id, plan) in declared.usage_plans.iter().filter(|(id, _)| !plans.contains(&***id)) {
        let was = plan.to_catalog_json().map_err(unexpected_response)?;
        changes.push(removed(
            format!("plan {id}"),
            format!("/usageplans/{}", encode_path_segment(id)),
            was,
        ));
    }
    for (id, api) in &declared.rest_apis {
        for (name, stage) in &api.stages {
            if !desired.stages.iter().any(|stage| stage.api == *id && stage.name == *name) {
                let was = stage.to_catalog_json().map_err(unexpected_response)?;
                changes.push(removed(format!("stage {id}/{name}"), stage_path(id, name), was));
            }
        }
    }
    Ok(changes)
}

fn stage_path(api: &str, name: &str) -> String {
    format!("/restapis/{}/stages/{}", encode_path_segment(api), encode_path_segment(name))
}

/// An error where the file says what the API would refuse.
fn unsupported_by_api(what: &str) -> impl Fn(control::ControlError) -> CommandError + '_ {
    move |why| CommandError::Unsupported(what.into(), why.to_string())
}

fn stage_change(
    desired: &DesiredStage,
    declared: &Document,
    new_api: bool,
) -> Result<Option<ResourceChange>, CommandError> {
    let DesiredStage { api, name, operations } = desired;
    let what = format!("stage {api}/{name}");
    let mut stage = Stage::new(control::StageSpec::new(name.clone(), String::new(), None));
    let patch = json!({ "patchOperations": operations });
    let patch: Patch = serde_json::from_value(patch).map_err(unexpected_response)?;
    stage.patch(&patch).map_err(unsupported_by_api(&what))?;
    let to = stage.to_catalog_json().map_err(unsupported_by_api(&what))?;
    let current = declared.rest_apis.get(api).and_then(|api| api.stages.get(name));
    let mut calls = Vec::new();
    let mut all = Vec::new();
    if let Some(current) = current {
        all = removals(&json!(current), operations);
    } else {
        if new_api {
            let body = json!({ "name": api, "tags": { "_custom_id_": api } });
            calls.push(ApiCall::post("/restapis".into(), body));
        }
        let deployments = format!("/restapis/{}/deployments", encode_path_segment(api));
        calls.push(ApiCall::post(deployments, json!({ "stageName": name })));
    }
    all.extend(operations.iter().cloned());
    if !all.is_empty() {
        calls.push(ApiCall::patch(stage_path(api, name), &all));
    }
    let from = current.map_or(Ok(Value::Null), |current| {
        current.to_catalog_json().map_err(unexpected_response)
    })?;
    Ok(change_if_different(what, from, to, calls))
}

/// What takes away the throttles and the consistency that a stage has and these operations do not set.
/// Other settings of its methods stay.
fn removals(current: &Value, operations: &[Value]) -> Vec<Value> {
    let sets = |path: &str| {
        let below = format!("{path}/");
        operations.iter().any(|set| set["path"].as_str().is_some_and(|set| set.starts_with(&below)))
    };
    let mut removals = Vec::new();
    if !current["consistency"].is_null()
        && operations.iter().all(|set| set["path"] != "/consistency")
    {
        removals.push(json!({ "op": "remove", "path": "/consistency" }));
    }
    if !current["throttle"].is_null() && !sets("/throttle") {
        removals.push(json!({ "op": "remove", "path": "/throttle" }));
    }
    for (method, settings) in current["methodSettings"].as_object().into_iter().flatten() {
        let path = format!("/{method}/throttling");
        if !settings["throttlingRateLimit"].is_null() && !sets(&path) {
            removals.push(set_operation(&format!("{path}/rateLimit"), "-1"));
        }
    }
    removals
}

fn change_if_different(
    what: String,
    from: Value,
    to: Value,
    calls: Vec<ApiCall>,
) -> Option<ResourceChange> {
    let sign = if from.is_null() { '+' } else { '~' };
    (from != to).then_some(ResourceChange { sign, what, sides: [from, to], calls })
}

fn plan_change(
    id: &str,
    desired: &Value,
    current: Option<&UsagePlan>,
) -> Result<Option<ResourceChange>, CommandError> {
    let what = format!("plan {id}");
    let plan: PlanSpec = serde_json::from_value(desired.clone()).map_err(unexpected_response)?;
    let plan = UsagePlan::new(plan)
        .and_then(|plan| plan.to_catalog_json())
        .map_err(unsupported_by_api(&what))?;
    let Some(current) = current else {
        let create = ApiCall::post("/usageplans".into(), desired.clone());
        return Ok(change_if_different(what, Value::Null, plan, vec![create]));
    };
    let operations = plan_operations(&json!(current), desired);
    let calls =
        vec![ApiCall::patch(format!("/usageplans/{}", encode_path_segment(id)), &operations)];
    Ok(change_if_different(
        what,
        current.to_catalog_json().map_err(unexpected_response)?,
        plan,
        calls,
    ))
}

/// The operations by which a plan becomes another.
fn plan_operations(current: &Value, desired: &Value) -> Vec<Value> {
    let remove = |path: &str| json!({ "op": "remove", "path": path });
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let members = |of: &Value| of.as_object().cloned().unwrap_or_default();
    let mut operations = Vec::new();
    for member in ["throttle", "quota"] {
        operations.push(remove(&format!("/{member}")));
        for (name, value) in members(&desired[member]) {
            operations.push(set_operation(&format!("/{member}/{name}"), &plain(&value)));
        }
    }
    for member in ["limits", "onStoreFailure", "consistency", "mode", "alongside"] {
        let path = format!("/{member}");
        let value = desired.get(member);
        operations
            .push(value.map_or_else(|| remove(&path), |value| set_operation(&path, &plain(value))));
    }
    let stages = |of: &Value| of["apiStages"].as_array().cloned().unwrap_or_default();
    let named = |stage: &Value| format!("{}:{}", plain(&stage["apiId"]), plain(&stage["stage"]));
    for stage in stages(current) {
        let value = named(&stage);
        operations.push(json!({ "op": "remove", "path": "/apiStages", "value": value }));
    }
    for stage in stages(desired) {
        operations.push(set_operation("/apiStages", &named(&stage)));
        for (method, throttle) in members(&stage["throttle"]) {
            let (path, method) = method.rsplit_once('/').unwrap_or_default();
            let at =
                format!("/apiStages/{}/throttle/{}/{method}", named(&stage), escape_pointer(path));
            for (name, value) in members(&throttle) {
                operations.push(set_operation(&format!("{at}/{name}"), &plain(&value)));
            }
        }
    }
    operations
}

/// A key's members and its plans. Its value is not told, and so is not compared.
async fn key_change(
    admin: &AdminClient,
    desired: &Value,
    plans: &[String],
) -> Result<Option<ResourceChange>, CommandError> {
    const MEMBERS: [&str; 5] = ["name", "enabled", "customerId", "expiresAt", "overrides"];
    let id = desired["tags"]["_custom_id_"].as_str().unwrap_or_default();
    let path = format!("/apikeys/{}", encode_path_segment(id));
    let current = get_optional(admin, &path).await?;
    let (mut calls, mut missing) = (Vec::new(), Vec::new());
    for plan in plans {
        let links = format!("/usageplans/{}/keys", encode_path_segment(plan));
        if get_optional(admin, &format!("{links}/{}", encode_path_segment(id))).await?.is_none() {
            missing.push(plan.as_str());
            calls.push(ApiCall::post(links, json!({ "keyId": id, "keyType": "API_KEY" })));
        }
    }
    // Only what the file says of it: what it does not say may stay.
    let given = MEMBERS.into_iter().filter(|member| desired.get(member).is_some());
    let members_of = |of: &Value| -> Map<String, Value> {
        given.clone().map(|member| (member.to_owned(), of[member].clone())).collect()
    };
    let mut to = members_of(desired);
    to.insert("plans".into(), json!(plans));
    let Some(current) = current else {
        calls.insert(0, ApiCall::post("/apikeys".into(), desired.clone()));
        return Ok(change_if_different(format!("key {id}"), Value::Null, to.into(), calls));
    };
    let mut from = members_of(&current);
    let on: Vec<_> = plans.iter().filter(|plan| !missing.contains(&plan.as_str())).collect();
    from.insert("plans".into(), json!(on));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let differing = given.filter(|member| desired[*member] != current[*member]);
    let operations: Vec<Value> = differing
        .map(|member| set_operation(&format!("/{member}"), &text(&desired[member])))
        .collect();
    if !operations.is_empty() {
        calls.insert(0, ApiCall::patch(path, &operations));
    }
    Ok(change_if_different(format!("key {id}"), from.into(), to.into(), calls))
}

/// What is there, if anything is.
async fn get_optional(admin: &AdminClient, path: &str) -> Result<Option<Value>, CommandError> {
    match admin.get(path).await {
        Ok(value) => Ok(Some(value)),
        Err(CommandError::Rejected(StatusCode::NOT_FOUND, _)) => Ok(None),
        Err(error) => Err(error),
    }
}

//! The differences between a catalog file and the resources of a service, each with the requests
//! that remove it.
//!
//! Both sides are compared in the catalog's form after a translation into AWS' form, so that an
//! applied file no longer differs.

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};
use super::desired::{DesiredKey, DesiredStage, DesiredState};
use super::export::unexpected_response;
use crate::control::translate::{plan_to_catalog, stage_to_catalog};
use crate::control::{self, ControlError, Document, Patch, PatchOperation, UsagePlan};

/// A change of one resource.
pub(super) struct ResourceChange {
    /// `+` for a creation, `~` for a change, `-` for a deletion.
    pub(super) sign: char,
    /// The resource, as in `plan basic`.
    pub(super) what: String,
    /// The resource before and after; null if it does not exist.
    pub(super) sides: [Value; 2],
    /// The requests that make the change, in this order.
    pub(super) calls: Vec<ApiCall>,
}

/// A request to the admin API.
pub(super) struct ApiCall(pub(super) Method, pub(super) String, pub(super) Option<Value>);

impl ApiCall {
    fn post(path: String, body: Value) -> Self {
        Self(Method::POST, path, Some(body))
    }

    fn patch(path: String, patch_operations: Vec<PatchOperation>) -> Self {
        Self(Method::PATCH, path, Some(json!(Patch { patch_operations })))
    }

    fn delete(path: String) -> Self {
        Self(Method::DELETE, path, None)
    }
}

/// All changes, in an order in which they can be made: a resource comes before those that refer to
/// it.
pub(super) async fn diff_resources(
    admin: &AdminClient,
    desired: &DesiredState,
    declared: &Document,
) -> Result<Vec<ResourceChange>, CommandError> {
    let mut changes = Vec::new();
    let mut apis: BTreeSet<&str> = declared.rest_apis.keys().map(String::as_str).collect();
    for stage in &desired.stages {
        changes.extend(stage_change(stage, declared, apis.insert(&*stage.api))?);
    }
    let mut plans = BTreeSet::new();
    for plan in &desired.plans {
        plans.insert(&*plan.id);
        changes.extend(plan_change(plan, declared.usage_plans.get(&plan.id))?);
    }
    for key in &desired.keys {
        changes.extend(key_change(admin, key).await?);
    }
    let removed = |what: String, was: Value, calls: Vec<ApiCall>| ResourceChange {
        sign: '-',
        what,
        sides: [was, Value::Null],
        calls,
    };
    for (id, plan) in declared.usage_plans.iter().filter(|(id, _)| !plans.contains(&***id)) {
        let was = json!(plan_to_catalog(plan).map_err(unexpected_response)?);
        let path = format!("/usageplans/{}", encode_path_segment(id));
        let mut calls = Vec::new();
        // A plan that serves a stage is not deleted.
        let operations = plan.operations_without_stages();
        if !operations.is_empty() {
            calls.push(ApiCall::patch(path.clone(), operations));
        }
        calls.push(ApiCall::delete(path));
        changes.push(removed(format!("plan {id}"), was, calls));
    }
    for (id, api) in &declared.rest_apis {
        for (name, stage) in &api.stages {
            let is_desired =
                |stage: &DesiredStage| stage.api == *id && stage.limits.stage_name == *name;
            if !desired.stages.iter().any(is_desired) {
                let was = stage_to_catalog(&stage.limits()).map_err(unexpected_response)?;
                let calls = vec![ApiCall::delete(stage_path(id, name))];
                changes.push(removed(format!("stage {id}/{name}"), json!(was), calls));
            }
        }
    }
    Ok(changes)
}

fn stage_path(api: &str, name: &str) -> String {
    format!("/restapis/{}/stages/{}", encode_path_segment(api), encode_path_segment(name))
}

/// The error that the admin API would refuse a part of the file.
fn unsupported_by_api(what: &str) -> impl Fn(ControlError) -> CommandError + '_ {
    move |why| CommandError::Unsupported(what.into(), why.to_string())
}

fn stage_change(
    desired: &DesiredStage,
    declared: &Document,
    new_api: bool,
) -> Result<Option<ResourceChange>, CommandError> {
    let DesiredStage { api, limits } = desired;
    let name = &limits.stage_name;
    let what = format!("stage {api}/{name}");
    let to = json!(stage_to_catalog(limits).map_err(unsupported_by_api(&what))?);
    let current = declared.rest_apis.get(api).and_then(|api| api.stages.get(name));
    let current = current.map(control::Stage::limits);
    let mut calls = Vec::new();
    if current.is_none() {
        if new_api {
            let body = json!({ "name": api, "tags": { "_custom_id_": api } });
            calls.push(ApiCall::post("/restapis".into(), body));
        }
        let deployments = format!("/restapis/{}/deployments", encode_path_segment(api));
        calls.push(ApiCall::post(deployments, json!({ "stageName": name })));
    }
    let operations = limits.operations_from(current.as_ref());
    if !operations.is_empty() {
        calls.push(ApiCall::patch(stage_path(api, name), operations));
    }
    let from = current.as_ref().map(stage_to_catalog).transpose().map_err(unexpected_response)?;
    Ok(change_if_different(what, json!(from), to, calls))
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
    desired: &UsagePlan,
    current: Option<&UsagePlan>,
) -> Result<Option<ResourceChange>, CommandError> {
    let what = format!("plan {}", desired.id);
    let to = json!(plan_to_catalog(desired).map_err(unsupported_by_api(&what))?);
    let Some(current) = current else {
        let create = ApiCall::post("/usageplans".into(), json!(desired.spec));
        return Ok(change_if_different(what, Value::Null, to, vec![create]));
    };
    let path = format!("/usageplans/{}", encode_path_segment(&desired.id));
    let calls = vec![ApiCall::patch(path, current.operations_to(&desired.spec))];
    let from = json!(plan_to_catalog(current).map_err(unexpected_response)?);
    Ok(change_if_different(what, from, to, calls))
}

/// Compares a key's members and its plans. Its value is not compared: no response has it.
async fn key_change(
    admin: &AdminClient,
    key: &DesiredKey,
) -> Result<Option<ResourceChange>, CommandError> {
    const MEMBERS: [&str; 6] =
        ["name", "enabled", "customerId", "expiresAt", "overrides", "policies"];
    let DesiredKey { id, request, plans } = key;
    let desired = json!(request);
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
    // Members that the file leaves out stay as they are.
    let given = MEMBERS.into_iter().filter(|member| desired.get(member).is_some());
    let members_of = |of: &Value| -> Map<String, Value> {
        given.clone().map(|member| (member.to_owned(), of[member].clone())).collect()
    };
    let mut to = members_of(&desired);
    to.insert("plans".into(), json!(plans));
    let Some(current) = current else {
        calls.insert(0, ApiCall::post("/apikeys".into(), desired));
        return Ok(change_if_different(format!("key {id}"), Value::Null, to.into(), calls));
    };
    let mut from = members_of(&current);
    let on: Vec<_> = plans.iter().filter(|plan| !missing.contains(&plan.as_str())).collect();
    from.insert("plans".into(), json!(on));
    let differing = given.filter(|member| desired[*member] != current[*member]);
    let operations: Vec<PatchOperation> = differing
        .map(|member| PatchOperation::set(format!("/{member}"), &desired[member]))
        .collect();
    if !operations.is_empty() {
        calls.insert(0, ApiCall::patch(path, operations));
    }
    Ok(change_if_different(format!("key {id}"), from.into(), to.into(), calls))
}

/// Gets a resource; `None` if it does not exist.
async fn get_optional(admin: &AdminClient, path: &str) -> Result<Option<Value>, CommandError> {
    match admin.get(path).await {
        Ok(value) => Ok(Some(value)),
        Err(CommandError::Rejected(StatusCode::NOT_FOUND, _)) => Ok(None),
        Err(error) => Err(error),
    }
}

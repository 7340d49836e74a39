//! `/usageplans`: usage plans, and the keys on them.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{Caller, RequestEditor};
use super::error::AdminError;
use super::key_pages::{KeyPage, KeySource, has_name, read_page};
use super::payload::{
    AdminResult, PageQuery, accepted_response, created_response, list_response, ok_response,
    parse_body,
};
use crate::control::{ControlError, Editor, KeyRecord, PlanSpec};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AddPlanKey {
    key_id: String,
    key_type: String,
}

/// The query of a list of plans.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListPlansQuery {
    key_id: Option<String>,
    #[serde(flatten)]
    page: PageQuery,
}

/// The query of a list of the keys on a plan.
#[derive(Default, Deserialize)]
pub(super) struct ListPlanKeysQuery {
    name: Option<String>,
    #[serde(flatten)]
    page: PageQuery,
}

pub(super) async fn create(RequestEditor(editor): RequestEditor, body: Bytes) -> AdminResult {
    let plan = editor.plans().create(parse_body::<PlanSpec>(&body)?).await?;
    Ok(created_response(&json!(plan)))
}

/// Lists all plans, or those of one key: none if there is no such key.
pub(super) async fn list(
    RequestEditor(editor): RequestEditor,
    Query(query): Query<ListPlansQuery>,
) -> AdminResult {
    let mut plans = editor.plans().list().await?;
    if let Some(key) = &query.key_id {
        let key = match editor.keys().get(key).await {
            Err(ControlError::NotFound(_)) => None,
            found => Some(found?),
        };
        plans.retain(|id, _| key.as_ref().is_some_and(|key| key.is_on(id)));
    }
    query.page.paginate(plans.iter().map(|(id, plan)| (&**id, plan.clone())))
}

pub(super) async fn get(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
) -> AdminResult {
    Ok(ok_response(&editor.plans().get(&id).await?))
}

pub(super) async fn patch(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    body: Bytes,
) -> AdminResult {
    let patch = parse_body(&body)?;
    let plans = editor.plans();
    let edit = plans.edit(&id, |document| {
        let plan = document.plan_mut(&id)?;
        plan.patch(&patch)?;
        Ok(json!(plan))
    });
    Ok(ok_response(&edit.await?))
}

pub(super) async fn delete(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
) -> AdminResult {
    editor.plans().delete(&id).await?;
    Ok(accepted_response())
}

pub(super) async fn add_key(
    RequestEditor(editor): RequestEditor,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> AdminResult {
    let request: AddPlanKey = parse_body(&body)?;
    if request.key_type != "API_KEY" {
        return Err(AdminError::bad_request("keyType must be API_KEY"));
    }
    let key = editor.plan_keys().add(&id, &request.key_id).await?;
    Ok(created_response(&render_plan_key(&editor, &key, caller.sees_values())))
}

pub(super) async fn list_keys(
    RequestEditor(editor): RequestEditor,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<ListPlanKeysQuery>,
) -> AdminResult {
    let is_selected = |key: &KeyRecord| has_name(key, query.name.as_deref());
    let filter = query.name.is_some().then_some(usize::MAX);
    let KeyPage { keys, next, .. } =
        read_page(&editor, KeySource::OnPlan(&id), &query.page, filter, is_selected).await?;
    let with_value = caller.sees_values();
    let page: Vec<Value> =
        keys.iter().map(|key| render_plan_key(&editor, key, with_value)).collect();
    Ok(list_response(&page, next))
}

pub(super) async fn get_key(
    RequestEditor(editor): RequestEditor,
    Extension(caller): Extension<Caller>,
    Path((id, key)): Path<(String, String)>,
) -> AdminResult {
    let record = editor.keys().get(&key).await?;
    if !record.is_on(&id) {
        return Err(ControlError::not_found("Usage Plan Key").into());
    }
    Ok(ok_response(&render_plan_key(&editor, &record, caller.sees_values())))
}

pub(super) async fn remove_key(
    RequestEditor(editor): RequestEditor,
    Path((id, key)): Path<(String, String)>,
) -> AdminResult {
    editor.plan_keys().remove(&id, &key).await?;
    Ok(accepted_response())
}

/// A key of a plan in a response; with its value if the caller may see it and it is kept.
fn render_plan_key(editor: &Editor, record: &KeyRecord, with_value: bool) -> Value {
    let mut link = json!({ "id": record.id, "type": "API_KEY", "name": record.name() });
    if record.is_from_file() {
        link["owner"] = "file".into();
    }
    if let Some(value) = with_value.then(|| editor.keys().reveal_value(record)).flatten() {
        link["value"] = value.into();
    }
    link
}

//! `/usageplans`: plans, and which keys are on them.

use axum::body::Bytes;
use axum::extract::{Path, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Editing;
use super::failure::Failure;
use super::wire::{Answer, Wanted, created, cut, parse, removed, shown};
use crate::control::{Error, KeyRecord, UsagePlan, WantedPlan};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WantedLink {
    key_id: String,
    key_type: String,
}

pub(super) async fn create(Editing(editor): Editing, body: Bytes) -> Answer {
    let plan = UsagePlan::new(parse::<WantedPlan>(&body)?)?;
    let insert = editor.edit_plan(&plan.id, |document| {
        if document.usage_plans.insert(plan.id.clone(), plan.clone()).is_some() {
            return Err(Error::Conflict(format!("The usage plan {} exists already", plan.id)));
        }
        Ok(())
    });
    insert.await?;
    Ok(created(&json!(plan)))
}

pub(super) async fn all(Editing(editor): Editing, Query(wanted): Query<Wanted>) -> Answer {
    let document = editor.document().await?;
    let mut plans = editor.filed_plans();
    plans.extend(document.usage_plans.iter().map(|(id, plan)| (id.clone(), json!(plan))));
    wanted.page(plans.iter().map(|(id, plan)| (&**id, plan.clone())))
}

pub(super) async fn one(Editing(editor): Editing, Path(id): Path<String>) -> Answer {
    if let Some(filed) = editor.filed_plans().get(&id) {
        return Ok(shown(filed));
    }
    Ok(shown(&json!(editor.document().await?.plan(&id)?)))
}

pub(super) async fn patch(Editing(editor): Editing, Path(id): Path<String>, body: Bytes) -> Answer {
    let patch = parse(&body)?;
    let edit = editor.edit_plan(&id, |document| {
        let plan = document.plan_mut(&id)?;
        plan.patch(&patch)?;
        Ok(json!(plan))
    });
    Ok(shown(&edit.await?))
}

pub(super) async fn delete(Editing(editor): Editing, Path(id): Path<String>) -> Answer {
    editor.delete_plan(&id).await?;
    Ok(removed())
}

pub(super) async fn add_key(
    Editing(editor): Editing,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let wanted: WantedLink = parse(&body)?;
    if wanted.key_type != "API_KEY" {
        return Err(Failure::bad_request("keyType must be API_KEY"));
    }
    Ok(created(&link(&editor.link(&id, &wanted.key_id).await?)))
}

pub(super) async fn keys(
    Editing(editor): Editing,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let (position, limit) = wanted.read()?;
    let keys = editor.keys_of(&id, position, limit + 1).await?;
    Ok(cut(keys.iter().map(|key| (&*key.id, link(key))).collect(), limit))
}

pub(super) async fn key(
    Editing(editor): Editing,
    Path((id, key)): Path<(String, String)>,
) -> Answer {
    let record = editor.key(&key).await?;
    if !record.is_on(&id) {
        return Err(Error::no("Usage Plan Key").into());
    }
    Ok(shown(&link(&record)))
}

pub(super) async fn remove_key(
    Editing(editor): Editing,
    Path((id, key)): Path<(String, String)>,
) -> Answer {
    editor.unlink(&id, &key).await?;
    Ok(removed())
}

/// A key as a plan's.
fn link(record: &KeyRecord) -> Value {
    let mut link = json!({ "id": record.id, "type": "API_KEY", "name": record.name() });
    if record.is_filed() {
        link["owner"] = "file".into();
    }
    link
}

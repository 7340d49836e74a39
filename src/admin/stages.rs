//! `/restapis/{id}/deployments` and `/stages`: what is deployed, and how much of it may be called.

use axum::body::Bytes;
use axum::extract::{Path, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Editing;
use super::wire::{Answer, Wanted, created, parse, removed, shown};
use crate::control::{Error, Patch, Stage, WantedStage};

/// A deployment as asked for; with a stage's name it is served by that stage at once.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WantedDeployment {
    description: Option<String>,
    stage_name: Option<String>,
    stage_description: Option<String>,
}

type Pair = Path<(String, String)>;

pub(super) async fn deploy(
    Editing(editor): Editing,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let wanted: WantedDeployment = parse(&body)?;
    let edit = editor.edit_api(&id, |document| {
        let api = document.api_mut(&id)?;
        let deployment = api.deploy(wanted.description.clone());
        if let Some(name) = wanted.stage_name.clone().filter(|name| !name.is_empty()) {
            let described = wanted.stage_description.clone();
            let new =
                || Stage::new(WantedStage::new(name.clone(), deployment.id.clone(), described));
            api.stages.entry(name.clone()).or_insert_with(new).activate(&deployment.id);
        }
        Ok(json!(deployment))
    });
    Ok(created(&edit.await?))
}

pub(super) async fn deployments(
    Editing(editor): Editing,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let document = editor.document().await?;
    wanted.page(document.api(&id)?.deployments.iter().map(|(id, it)| (&**id, json!(it))))
}

fn no_deployment() -> Error {
    Error::no("Deployment")
}

pub(super) async fn deployment(Editing(editor): Editing, Path((id, at)): Pair) -> Answer {
    let document = editor.document().await?;
    Ok(shown(&json!(document.api(&id)?.deployments.get(&at).ok_or_else(no_deployment)?)))
}

pub(super) async fn patch_deployment(
    Editing(editor): Editing,
    Path((id, at)): Pair,
    body: Bytes,
) -> Answer {
    let patch: Patch = parse(&body)?;
    let edit = editor.edit_api(&id, |document| {
        let deployment =
            document.api_mut(&id)?.deployments.get_mut(&at).ok_or_else(no_deployment)?;
        deployment.patch(&patch)?;
        Ok(json!(deployment))
    });
    Ok(shown(&edit.await?))
}

pub(super) async fn delete_deployment(Editing(editor): Editing, Path((id, at)): Pair) -> Answer {
    let edit = editor.edit_api(&id, |document| {
        let api = document.api_mut(&id)?;
        if api.stages.values().any(|stage| stage.deployment() == at) {
            let why = "Active stages pointing to this deployment must be moved or deleted";
            return Err(Error::BadRequest(why.into()));
        }
        api.deployments.remove(&at).map(drop).ok_or_else(no_deployment)
    });
    edit.await?;
    Ok(removed())
}

pub(super) async fn create(
    Editing(editor): Editing,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let wanted: WantedStage = parse(&body)?;
    let edit = editor.edit_api(&id, |document| {
        let api = document.api_mut(&id)?;
        if !api.deployments.contains_key(&wanted.deployment_id) {
            return Err(no_deployment());
        }
        let stage = Stage::new(wanted.clone());
        let made = json!(stage);
        if api.stages.insert(wanted.stage_name.clone(), stage).is_some() {
            return Err(Error::Conflict("Stage already exists".into()));
        }
        Ok(made)
    });
    Ok(created(&edit.await?))
}

/// All stages: an API has few, so AWS does not page them.
pub(super) async fn all(Editing(editor): Editing, Path(id): Path<String>) -> Answer {
    let filed = editor.filed_stages(&id);
    if editor.filed_apis().contains_key(&id) {
        return Ok(shown(&json!({ "item": filed.into_values().collect::<Vec<_>>() })));
    }
    let document = editor.document().await?;
    let stages: Vec<Value> = document.api(&id)?.stages.values().map(|stage| json!(stage)).collect();
    Ok(shown(&json!({ "item": stages })))
}

pub(super) async fn one(Editing(editor): Editing, Path((id, name)): Pair) -> Answer {
    if let Some(filed) = editor.filed_stages(&id).get(&name) {
        return Ok(shown(filed));
    }
    Ok(shown(&json!(editor.document().await?.api(&id)?.stage(&name)?)))
}

pub(super) async fn patch(Editing(editor): Editing, Path((id, name)): Pair, body: Bytes) -> Answer {
    let patch: Patch = parse(&body)?;
    let edit = editor.edit_api(&id, |document| {
        let api = document.api_mut(&id)?;
        let mut stage = api.stage(&name)?.clone();
        stage.patch(&patch)?;
        if !api.deployments.contains_key(stage.deployment()) {
            return Err(no_deployment());
        }
        let shown = json!(stage);
        api.stages.insert(name.clone(), stage);
        Ok(shown)
    });
    Ok(shown(&edit.await?))
}

pub(super) async fn delete(Editing(editor): Editing, Path((id, name)): Pair) -> Answer {
    let edit = editor.edit_api(&id, |document| {
        document.unnamed(&id, Some(&name))?;
        let removed = document.api_mut(&id)?.stages.remove(&name);
        removed.map(drop).ok_or_else(|| Error::no("stage"))
    });
    edit.await?;
    Ok(removed())
}

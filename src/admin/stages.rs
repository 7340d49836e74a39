//! `/restapis/{id}/deployments` and `/stages`: deployments, and stages with their limits.

use axum::body::Bytes;
use axum::extract::{Path, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::RequestEditor;
use super::payload::{
    AdminResult, PageQuery, accepted_response, created_response, ok_response, parse_body,
};
use crate::control::{ControlError, Patch, Stage, StageSpec};

/// A request to create a deployment. With a stage's name that stage serves it at once.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateDeployment {
    description: Option<String>,
    stage_name: Option<String>,
    stage_description: Option<String>,
}

type ChildPath = Path<(String, String)>;

pub(super) async fn create_deployment(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    body: Bytes,
) -> AdminResult {
    let request: CreateDeployment = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let api = document.api_mut(&id)?;
        let deployment = api.deploy(request.description.clone());
        if let Some(name) = request.stage_name.clone().filter(|name| !name.is_empty()) {
            let described = request.stage_description.clone();
            let new = || Stage::new(StageSpec::new(name.clone(), deployment.id.clone(), described));
            api.stages.entry(name.clone()).or_insert_with(new).activate(&deployment.id);
        }
        Ok(deployment.to_aws_json(false))
    });
    Ok(created_response(&edit.await?))
}

pub(super) async fn list_deployments(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    Query(page): Query<PageQuery>,
) -> AdminResult {
    let document = editor.apis().document().await?;
    let deployments = document.api(&id)?.deployments.iter();
    page.paginate(deployments.map(|(id, it)| (&**id, it.to_aws_json(false))))
}

fn no_deployment() -> ControlError {
    ControlError::not_found("Deployment")
}

/// The query of one deployment.
#[derive(Deserialize)]
pub(super) struct GetDeploymentQuery {
    embed: Option<String>,
}

pub(super) async fn get_deployment(
    RequestEditor(editor): RequestEditor,
    Path((id, deployment_id)): ChildPath,
    Query(query): Query<GetDeploymentQuery>,
) -> AdminResult {
    let document = editor.apis().document().await?;
    let deployment = document.api(&id)?.deployments.get(&deployment_id);
    let deployment = deployment.ok_or_else(no_deployment)?;
    Ok(ok_response(&deployment.to_aws_json(query.embed.is_some())))
}

pub(super) async fn patch_deployment(
    RequestEditor(editor): RequestEditor,
    Path((id, deployment_id)): ChildPath,
    body: Bytes,
) -> AdminResult {
    let patch: Patch = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let deployment =
            document.api_mut(&id)?.deployments.get_mut(&deployment_id).ok_or_else(no_deployment)?;
        deployment.patch(&patch)?;
        Ok(deployment.to_aws_json(false))
    });
    Ok(ok_response(&edit.await?))
}

pub(super) async fn delete_deployment(
    RequestEditor(editor): RequestEditor,
    Path((id, deployment_id)): ChildPath,
) -> AdminResult {
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let api = document.api_mut(&id)?;
        if api.stages.values().any(|stage| stage.deployment() == deployment_id) {
            let why = "Active stages pointing to this deployment must be moved or deleted";
            return Err(ControlError::BadRequest(why.into()));
        }
        api.deployments.remove(&deployment_id).map(drop).ok_or_else(no_deployment)
    });
    edit.await?;
    Ok(accepted_response())
}

pub(super) async fn create(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    body: Bytes,
) -> AdminResult {
    let request: StageSpec = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let api = document.api_mut(&id)?;
        if !api.deployments.contains_key(&request.deployment_id) {
            return Err(no_deployment());
        }
        let stage = Stage::new(request.clone());
        let made = json!(stage);
        if api.stages.insert(request.stage_name.clone(), stage).is_some() {
            return Err(ControlError::Conflict("Stage already exists".into()));
        }
        Ok(made)
    });
    Ok(created_response(&edit.await?))
}

/// The query of a list of stages.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListStagesQuery {
    deployment_id: Option<String>,
}

/// Returns all stages, or those of one deployment: an API has few, so AWS has no pages of them.
pub(super) async fn list(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    Query(query): Query<ListStagesQuery>,
) -> AdminResult {
    let stages = editor.apis().stages(&id).await?.into_values();
    let is_selected = |stage: &Value| {
        query.deployment_id.as_ref().is_none_or(|deployment| stage["deploymentId"] == **deployment)
    };
    let stages: Vec<Value> = stages.filter(is_selected).collect();
    Ok(ok_response(&json!({ "item": stages })))
}

pub(super) async fn get(
    RequestEditor(editor): RequestEditor,
    Path((id, name)): ChildPath,
) -> AdminResult {
    let stage = editor.apis().stages(&id).await?.remove(&name);
    Ok(ok_response(&stage.ok_or_else(|| ControlError::not_found("stage"))?))
}

pub(super) async fn patch(
    RequestEditor(editor): RequestEditor,
    Path((id, name)): ChildPath,
    body: Bytes,
) -> AdminResult {
    let patch: Patch = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
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
    Ok(ok_response(&edit.await?))
}

pub(super) async fn delete(
    RequestEditor(editor): RequestEditor,
    Path((id, name)): ChildPath,
) -> AdminResult {
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        document.ensure_unreferenced(&id, Some(&name))?;
        let removed = document.api_mut(&id)?.stages.remove(&name);
        removed.map(drop).ok_or_else(|| ControlError::not_found("stage"))
    });
    edit.await?;
    Ok(accepted_response())
}

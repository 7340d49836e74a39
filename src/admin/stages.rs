//! `/restapis/{id}/deployments` and `/stages`: deployments, and stages with their limits.

use axum::body::Bytes;
use axum::extract::{Path, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::RequestEditor;
use super::payload::{
    AdminResult, PageQuery, accepted_response, created_response, ok_response, parse_body,
};
use crate::control::{ControlError, Patch, RestApi, Stage, StageSpec};

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
            if let Some(stage) = api.stages.get_mut(&name) {
                stage.activate(&deployment.id);
            } else {
                let described = request.stage_description.iter();
                let described = described.map(|it| ("description".into(), it.clone().into()));
                let id = deployment.id.clone();
                let stage = Stage::new(StageSpec::new(name.clone(), id, described.collect()))?;
                api.stages.insert(name, stage);
            }
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
        let serves = |stage: &Stage| {
            let canary = stage.canary_deployment();
            stage.deployment() == deployment_id || canary == Some(&*deployment_id)
        };
        if api.stages.values().any(serves) {
            let why = "Active stages pointing to this deployment must be moved or deleted";
            return Err(ControlError::BadRequest(why.into()));
        }
        api.deployments.remove(&deployment_id).map(drop).ok_or_else(no_deployment)
    });
    edit.await?;
    Ok(accepted_response())
}

/// Checks that the deployments of a stage, and of its canary, exist.
fn ensure_deployed(api: &RestApi, stage: &Stage) -> Result<(), ControlError> {
    let canary = stage.canary_deployment();
    let mut serves = std::iter::once(stage.deployment()).chain(canary);
    if serves.all(|id| api.deployments.contains_key(id)) { Ok(()) } else { Err(no_deployment()) }
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
        let stage = Stage::new(request.clone())?;
        ensure_deployed(api, &stage)?;
        let made = stage.to_aws_json();
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
        ensure_deployed(api, &stage)?;
        let shown = stage.to_aws_json();
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
    apis.edit(&id, |document| document.remove_stage(&id, &name)).await?;
    Ok(accepted_response())
}

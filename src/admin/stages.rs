//! `/restapis/{id}/deployments` and `/stages`: deployments, and stages with their limits.

use axum::body::Bytes;
use axum::extract::{Path, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::RequestEditor;
use super::payload::{
    AdminResult, PageQuery, accepted_response, created_response, ok_response, parse_body,
};
use crate::control::{ControlError, CreateDeployment, Document, Patch, RestApi, Stage, StageSpec};

type ChildPath = Path<(String, String)>;

pub(super) async fn create_deployment(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    body: Bytes,
) -> AdminResult {
    let request: CreateDeployment = parse_body(&body)?;
    let apis = editor.apis();
    let edit =
        apis.edit(&id, |document| Ok(request.apply(document.api_mut(&id)?)?.to_aws_json(false)));
    Ok(created_response(&edit.await?))
}

pub(super) async fn list_deployments(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    Query(page): Query<PageQuery>,
) -> AdminResult {
    let api = editor.apis().get(&id).await?;
    page.paginate(api.deployments.iter().map(|(id, it)| (&**id, it.to_aws_json(false))))
}

/// The error for a stage of an API that does not exist.
fn no_stage(error: ControlError) -> ControlError {
    error.below_api("stage")
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
    let api = editor.apis().get(&id).await?;
    let deployment = api.deployments.get(&deployment_id).ok_or_else(no_deployment)?;
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
    let api = editor.apis().get(&id).await?;
    let deployment = query.deployment_id.as_deref();
    let is_selected = |stage: &&Stage| deployment.is_none_or(|it| it == stage.deployment());
    let stages = api.stages.values().filter(is_selected);
    let stages: Vec<Value> = stages.map(Stage::to_aws_json).collect();
    Ok(ok_response(&json!({ "item": stages })))
}

pub(super) async fn get(
    RequestEditor(editor): RequestEditor,
    Path((id, name)): ChildPath,
) -> AdminResult {
    let api = editor.apis().get(&id).await.map_err(no_stage)?;
    Ok(ok_response(&api.stage(&name)?.to_aws_json()))
}

pub(super) async fn patch(
    RequestEditor(editor): RequestEditor,
    Path((id, name)): ChildPath,
    body: Bytes,
) -> AdminResult {
    let patch: Patch = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let api = document.api_mut(&id).map_err(no_stage)?;
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
    let remove = |document: &mut Document| document.remove_stage(&id, &name).map_err(no_stage);
    apis.edit(&id, remove).await?;
    Ok(accepted_response())
}

//! `/restapis/{id}/resources`: the paths of an API.

use axum::body::Bytes;
use axum::extract::{Path, Query};
use serde::Deserialize;

use super::auth::RequestEditor;
use super::payload::{
    AdminResult, PageQuery, accepted_response, created_response, ok_response, parse_body,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateResource {
    path_part: String,
}

type ResourcePath = Path<(String, String)>;

/// The query of resources: with `embed` they have their methods.
#[derive(Deserialize)]
pub(super) struct EmbedQuery {
    embed: Option<String>,
}

pub(super) async fn list(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    Query(page): Query<PageQuery>,
    Query(query): Query<EmbedQuery>,
) -> AdminResult {
    let api = editor.apis().get(&id).await?;
    page.paginate(
        api.resources.iter().map(|(id, it)| (&**id, it.to_aws_json(query.embed.is_some()))),
    )
}

pub(super) async fn get(
    RequestEditor(editor): RequestEditor,
    Path((id, resource)): ResourcePath,
    Query(query): Query<EmbedQuery>,
) -> AdminResult {
    let api = editor.apis().get(&id).await?;
    Ok(ok_response(&api.resources.get(&resource)?.to_aws_json(query.embed.is_some())))
}

pub(super) async fn create(
    RequestEditor(editor): RequestEditor,
    Path((id, parent)): ResourcePath,
    body: Bytes,
) -> AdminResult {
    let request: CreateResource = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let resources = &mut document.api_mut(&id)?.resources;
        Ok(resources.add(&parent, &request.path_part)?.to_aws_json(false))
    });
    Ok(created_response(&edit.await?))
}

pub(super) async fn patch(
    RequestEditor(editor): RequestEditor,
    Path((id, resource)): ResourcePath,
    body: Bytes,
) -> AdminResult {
    let patch = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let resources = &mut document.api_mut(&id)?.resources;
        Ok(resources.patch(&resource, &patch)?.to_aws_json(false))
    });
    Ok(ok_response(&edit.await?))
}

pub(super) async fn delete(
    RequestEditor(editor): RequestEditor,
    Path((id, resource)): ResourcePath,
) -> AdminResult {
    let apis = editor.apis();
    apis.edit(&id, |document| document.api_mut(&id)?.resources.remove(&resource)).await?;
    Ok(accepted_response())
}

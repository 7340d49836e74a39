//! `/restapis`: APIs, also as `OpenAPI` documents define them. What is below them is in `resources`, `methods` and `stages`.

use axum::body::Bytes;
use axum::extract::{Path, Query};

use super::auth::RequestEditor;
use super::documents::{ImportQuery, with_warnings};
use super::payload::{
    AdminResult, PageQuery, accepted_response, created_response, ok_response, parse_body,
};
use crate::control::{ApiSpec, ControlError, Editor, RestApi};

pub(super) async fn create(
    RequestEditor(editor): RequestEditor,
    Query(query): Query<ImportQuery>,
    body: Bytes,
) -> AdminResult {
    if query.is_import() {
        let (definition, warnings) = query.read(&body)?;
        let api = RestApi::from_definition(&definition)?;
        insert(&editor, &api).await?;
        return Ok(created_response(&with_warnings(&api, &warnings)));
    }
    query.refuse_without_import()?;
    let api = RestApi::new(parse_body::<ApiSpec>(&body)?)?;
    insert(&editor, &api).await?;
    Ok(created_response(&api.to_aws_json()))
}

/// Adds a new API.
async fn insert(editor: &Editor, api: &RestApi) -> Result<(), ControlError> {
    let apis = editor.apis();
    let insert = apis.edit(&api.id, |document| {
        if document.rest_apis.insert(api.id.clone(), api.clone()).is_some() {
            return Err(ControlError::Conflict(format!("The API {} exists already", api.id)));
        }
        Ok(())
    });
    insert.await
}

pub(super) async fn put(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    Query(query): Query<ImportQuery>,
    body: Bytes,
) -> AdminResult {
    let overwrites = query.overwrites()?;
    let (definition, warnings) = query.read(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let api = document.api_mut(&id)?;
        if overwrites {
            api.overwrite(&definition)?;
        } else {
            api.merge(&definition)?;
        }
        Ok(with_warnings(api, &warnings))
    });
    Ok(ok_response(&edit.await?))
}

pub(super) async fn list(
    RequestEditor(editor): RequestEditor,
    Query(page): Query<PageQuery>,
) -> AdminResult {
    let apis = editor.apis().list().await?;
    page.paginate(apis.iter().map(|(id, api)| (&**id, api.clone())))
}

pub(super) async fn get(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
) -> AdminResult {
    Ok(ok_response(&editor.apis().get(&id).await?.to_aws_json()))
}

pub(super) async fn patch(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    body: Bytes,
) -> AdminResult {
    let patch = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let api = document.api_mut(&id)?;
        api.patch(&patch)?;
        Ok(api.to_aws_json())
    });
    Ok(ok_response(&edit.await?))
}

pub(super) async fn delete(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
) -> AdminResult {
    let apis = editor.apis();
    apis.edit(&id, |document| document.remove_api(&id)).await?;
    Ok(accepted_response())
}

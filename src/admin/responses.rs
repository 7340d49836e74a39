//! `…/methods/{method}/responses/{status}` and `…/integration/responses/{status}`: responses of
//! methods and of integrations, which are kept and returned.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Path;
use axum::routing::{MethodRouter, put as put_route};
use serde_json::json;

use super::Admin;
use super::auth::RequestEditor;
use super::methods::{method_mut, read_method};
use super::payload::{AdminResult, created_response, deleted_response, ok_response, parse_body};
use crate::control::{ControlError, Editor, ResponseOwner, StatusResponse};

/// The ids of an API and a resource, the name of a method, and a status code.
type ResponsePath = Path<(String, String, String, String)>;

/// The path of a response's method, and its status code.
type SplitPath = ((String, String, String), String);

fn split(
    (id, resource, method, status): (String, String, String, String),
) -> Result<SplitPath, ControlError> {
    StatusResponse::check_code(&status)?;
    Ok(((id, resource, method), status))
}

/// The handlers of the responses of `owner`.
pub(super) fn routes(owner: ResponseOwner) -> MethodRouter<Arc<Admin>> {
    put_route(move |RequestEditor(editor): RequestEditor, Path(path): ResponsePath, body: Bytes| async move {
        put(owner, editor, split(path)?, body).await
    })
    .get(move |RequestEditor(editor): RequestEditor, Path(path): ResponsePath| async move {
        get(owner, editor, split(path)?).await
    })
    .patch(move |RequestEditor(editor): RequestEditor, Path(path): ResponsePath, body: Bytes| async move {
        patch(owner, editor, split(path)?, body).await
    })
    .delete(move |RequestEditor(editor): RequestEditor, Path(path): ResponsePath| async move {
        delete(owner, editor, split(path)?).await
    })
}

fn no_response() -> ControlError {
    ControlError::NotFound("Invalid Response status code specified".into())
}

async fn put(
    owner: ResponseOwner,
    editor: Editor,
    (at, status): SplitPath,
    body: Bytes,
) -> AdminResult {
    let response = StatusResponse::new(owner, &status, parse_body(&body)?)?;
    let apis = editor.apis();
    let edit = apis.edit(&at.0, |document| {
        let responses = method_mut(document, &at)?.responses_mut(owner)?;
        let was = responses.insert(status.clone(), response.clone());
        // AWS replaces the response of an integration, and refuses a second one of a method.
        if was.is_some() && matches!(owner, ResponseOwner::Method) {
            let why = "Response already exists for this resource";
            return Err(ControlError::Conflict(why.into()));
        }
        Ok(())
    });
    edit.await?;
    Ok(created_response(&json!(response)))
}

async fn get(owner: ResponseOwner, editor: Editor, (at, status): SplitPath) -> AdminResult {
    let method = read_method(&editor, &at).await?;
    let responses = method.responses(owner)?;
    Ok(ok_response(&json!(responses.get(&status).ok_or_else(no_response)?)))
}

async fn patch(
    owner: ResponseOwner,
    editor: Editor,
    (at, status): SplitPath,
    body: Bytes,
) -> AdminResult {
    let patch = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&at.0, |document| {
        let responses = method_mut(document, &at)?.responses_mut(owner)?;
        let response = responses.get_mut(&status).ok_or_else(no_response)?;
        response.patch(owner, &patch)?;
        Ok(json!(response))
    });
    let patched = edit.await?;
    // AWS' statuses.
    Ok(match owner {
        ResponseOwner::Method => created_response(&patched),
        ResponseOwner::Integration => ok_response(&patched),
    })
}

async fn delete(owner: ResponseOwner, editor: Editor, (at, status): SplitPath) -> AdminResult {
    let apis = editor.apis();
    let edit = apis.edit(&at.0, |document| {
        let responses = method_mut(document, &at)?.responses_mut(owner)?;
        responses.remove(&status).map(drop).ok_or_else(no_response)
    });
    edit.await?;
    Ok(deleted_response())
}

//! `/restapis/{id}/resources/{at}/methods/{method}`: methods and their integrations.

use axum::body::Bytes;
use axum::extract::Path;

use super::auth::RequestEditor;
use super::payload::{AdminResult, created_response, deleted_response, ok_response, parse_body};
use crate::control::{ControlError, Document, Editor, Integration, Method};

/// The ids of an API and a resource, and the name of a method.
pub(super) type MethodPath = Path<(String, String, String)>;

/// A method of an API.
///
/// # Errors
/// If one of the ids or the method does not exist.
pub(super) async fn read_method(
    editor: &Editor,
    (id, resource, method): &(String, String, String),
) -> Result<Method, ControlError> {
    let api = editor.apis().get(id).await.map_err(no_resource)?;
    Ok(api.resources.get(resource)?.method(method)?.clone())
}

/// A method in the document, for a change.
///
/// # Errors
/// If one of the ids or the method does not exist.
pub(super) fn method_mut<'d>(
    document: &'d mut Document,
    (id, resource, method): &(String, String, String),
) -> Result<&'d mut Method, ControlError> {
    let api = document.api_mut(id).map_err(no_resource)?;
    api.resources.get_mut(resource)?.method_mut(method)
}

/// The error for a method of an API that does not exist, of which AWS says that the resource does
/// not.
fn no_resource(error: ControlError) -> ControlError {
    error.below_api("Resource")
}

pub(super) async fn put(
    RequestEditor(editor): RequestEditor,
    Path((id, resource, name)): MethodPath,
    body: Bytes,
) -> AdminResult {
    let method = Method::new(&name, parse_body(&body)?)?;
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let api = document.api_mut(&id).map_err(no_resource)?;
        let methods = &mut api.resources.get_mut(&resource)?.resource_methods;
        if methods.insert(name.clone(), method.clone()).is_some() {
            return Err(ControlError::Conflict("Method already exists for this resource".into()));
        }
        Ok(())
    });
    edit.await?;
    Ok(created_response(&method.to_aws_json(&resource)))
}

pub(super) async fn get(RequestEditor(editor): RequestEditor, Path(at): MethodPath) -> AdminResult {
    Ok(ok_response(&read_method(&editor, &at).await?.to_aws_json(&at.1)))
}

pub(super) async fn patch(
    RequestEditor(editor): RequestEditor,
    Path(at): MethodPath,
    body: Bytes,
) -> AdminResult {
    let patch = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&at.0, |document| {
        let method = method_mut(document, &at)?;
        method.patch(&patch)?;
        Ok(method.to_aws_json(&at.1))
    });
    Ok(ok_response(&edit.await?))
}

pub(super) async fn delete(
    RequestEditor(editor): RequestEditor,
    Path((id, resource, name)): MethodPath,
) -> AdminResult {
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let methods = &mut document.api_mut(&id)?.resources.get_mut(&resource)?.resource_methods;
        methods.remove(&name).map(drop).ok_or_else(|| ControlError::not_found("Method"))
    });
    edit.await?;
    Ok(deleted_response())
}

pub(super) async fn put_integration(
    RequestEditor(editor): RequestEditor,
    Path(at): MethodPath,
    body: Bytes,
) -> AdminResult {
    let integration = Integration::new(parse_body(&body)?)?;
    let apis = editor.apis();
    let edit = apis.edit(&at.0, |document| {
        method_mut(document, &at)?.integration = Some(integration.clone());
        Ok(())
    });
    edit.await?;
    Ok(created_response(&integration.to_aws_json(&at.1)))
}

pub(super) async fn get_integration(
    RequestEditor(editor): RequestEditor,
    Path(at): MethodPath,
) -> AdminResult {
    Ok(ok_response(&read_method(&editor, &at).await?.integration()?.to_aws_json(&at.1)))
}

pub(super) async fn patch_integration(
    RequestEditor(editor): RequestEditor,
    Path(at): MethodPath,
    body: Bytes,
) -> AdminResult {
    let patch = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&at.0, |document| {
        let integration = method_mut(document, &at)?.integration_mut()?;
        integration.patch(&patch)?;
        Ok(integration.to_aws_json(&at.1))
    });
    Ok(ok_response(&edit.await?))
}

pub(super) async fn delete_integration(
    RequestEditor(editor): RequestEditor,
    Path(at): MethodPath,
) -> AdminResult {
    let apis = editor.apis();
    let edit = apis.edit(&at.0, |document| {
        let method = method_mut(document, &at)?;
        method.integration()?;
        method.integration = None;
        Ok(())
    });
    edit.await?;
    Ok(deleted_response())
}

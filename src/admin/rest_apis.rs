//! `/restapis`: APIs, their resources and methods.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::auth::RequestEditor;
use super::error::AdminError;
use super::payload::{
    AdminResult, PageQuery, accepted_response, created_response, ok_response, parse_body,
};
use crate::control::{ApiSpec, ControlError, Document, Resource, RestApi};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateResource {
    path_part: String,
}

pub(super) async fn create(RequestEditor(editor): RequestEditor, body: Bytes) -> AdminResult {
    let api = RestApi::new(parse_body::<ApiSpec>(&body)?)?;
    let apis = editor.apis();
    let insert = apis.edit(&api.id, |document| {
        if document.rest_apis.insert(api.id.clone(), api.clone()).is_some() {
            return Err(ControlError::Conflict(format!("The API {} exists already", api.id)));
        }
        Ok(())
    });
    insert.await?;
    Ok(created_response(&api.to_aws_json()))
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
    Ok(ok_response(&editor.apis().get(&id).await?))
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
    let edit = apis.edit(&id, |document| {
        document.ensure_unreferenced(&id, None)?;
        document.rest_apis.remove(&id).map(drop).ok_or_else(|| ControlError::not_found("API"))
    });
    edit.await?;
    Ok(accepted_response())
}

/// The query of resources: with `embed` they have their methods.
#[derive(Deserialize)]
pub(super) struct EmbedQuery {
    embed: Option<String>,
}

/// A resource in a response, with its methods if the query has `embed=methods`.
fn render_resource(resource: &Resource, query: &EmbedQuery) -> Value {
    let mut shown = json!(resource);
    if query.embed.is_none() {
        // Without it AWS still returns the names of the methods.
        let names = resource.resource_methods.keys();
        let names: Map<_, _> = names.map(|name| (name.clone(), json!({}))).collect();
        if !names.is_empty() {
            shown["resourceMethods"] = names.into();
        }
    }
    shown
}

pub(super) async fn list_resources(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    Query(page): Query<PageQuery>,
    Query(query): Query<EmbedQuery>,
) -> AdminResult {
    let document = editor.apis().document().await?;
    let resources = document.api(&id)?.resources.iter();
    page.paginate(resources.map(|(id, it)| (&**id, render_resource(it, &query))))
}

pub(super) async fn get_resource(
    RequestEditor(editor): RequestEditor,
    Path((id, resource_id)): Path<(String, String)>,
    Query(query): Query<EmbedQuery>,
) -> AdminResult {
    Ok(ok_response(&render_resource(
        editor.apis().document().await?.api(&id)?.resource(&resource_id)?,
        &query,
    )))
}

pub(super) async fn create_resource(
    RequestEditor(editor): RequestEditor,
    Path((id, parent)): Path<(String, String)>,
    body: Bytes,
) -> AdminResult {
    let request: CreateResource = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        Ok(json!(document.api_mut(&id)?.add_resource(&parent, &request.path_part)?))
    });
    Ok(created_response(&edit.await?))
}

pub(super) async fn delete_resource(
    RequestEditor(editor): RequestEditor,
    Path((id, resource_id)): Path<(String, String)>,
) -> AdminResult {
    editor
        .apis()
        .edit(&id, |document| document.api_mut(&id)?.remove_resource(&resource_id))
        .await?;
    Ok(accepted_response())
}

type MethodPath = Path<(String, String, String)>;

fn no_method() -> ControlError {
    ControlError::not_found("Method")
}

/// The methods of a resource, for a change.
fn methods_mut<'d>(
    document: &'d mut Document,
    id: &str,
    resource_id: &str,
) -> Result<&'d mut BTreeMap<String, Value>, ControlError> {
    Ok(&mut document.api_mut(id)?.resource_mut(resource_id)?.resource_methods)
}

pub(super) async fn put_method(
    RequestEditor(editor): RequestEditor,
    Path((id, resource_id, method)): MethodPath,
    body: Bytes,
) -> AdminResult {
    const METHODS: [&str; 8] = ["ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];
    let mut request: Map<String, Value> = parse_body(&body)?;
    if !METHODS.contains(&&*method) {
        return Err(AdminError::bad_request("Invalid HTTP method specified"));
    }
    if !request.get("authorizationType").is_some_and(Value::is_string) {
        return Err(AdminError::bad_request("a method needs an authorizationType, such as NONE"));
    }
    request.insert("httpMethod".into(), method.clone().into());
    request.entry("apiKeyRequired").or_insert(Value::Bool(false));
    let request = Value::from(request);
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let methods = methods_mut(document, &id, &resource_id)?;
        if methods.insert(method.clone(), request.clone()).is_some() {
            return Err(ControlError::Conflict("Method already exists for this resource".into()));
        }
        Ok(())
    });
    edit.await?;
    Ok(created_response(&request))
}

pub(super) async fn get_method(
    RequestEditor(editor): RequestEditor,
    Path((id, resource_id, method)): MethodPath,
) -> AdminResult {
    let document = editor.apis().document().await?;
    let methods = &document.api(&id)?.resource(&resource_id)?.resource_methods;
    Ok(ok_response(methods.get(&method).ok_or_else(no_method)?))
}

pub(super) async fn delete_method(
    RequestEditor(editor): RequestEditor,
    Path((id, resource_id, method)): MethodPath,
) -> AdminResult {
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let methods = methods_mut(document, &id, &resource_id)?;
        methods.remove(&method).map(drop).ok_or_else(no_method)
    });
    edit.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Stores the integration, the backend of a method. It has no effect.
pub(super) async fn put_integration(
    RequestEditor(editor): RequestEditor,
    Path((id, resource_id, method)): MethodPath,
    body: Bytes,
) -> AdminResult {
    let request: Map<String, Value> = parse_body(&body)?;
    if !request.get("type").is_some_and(Value::is_string) {
        return Err(AdminError::bad_request("an integration needs a type, such as HTTP_PROXY"));
    }
    let apis = editor.apis();
    let edit = apis.edit(&id, |document| {
        let methods = methods_mut(document, &id, &resource_id)?;
        let method = methods.get_mut(&method).ok_or_else(no_method)?;
        method["methodIntegration"] = request.clone().into();
        Ok(())
    });
    edit.await?;
    Ok(created_response(&request.into()))
}

pub(super) async fn get_integration(
    RequestEditor(editor): RequestEditor,
    Path((id, resource_id, method)): MethodPath,
) -> AdminResult {
    let document = editor.apis().document().await?;
    let methods = &document.api(&id)?.resource(&resource_id)?.resource_methods;
    let integration = methods.get(&method).and_then(|method| method.get("methodIntegration"));
    Ok(ok_response(integration.ok_or_else(|| ControlError::not_found("Integration"))?))
}

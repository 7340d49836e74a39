//! `/restapis`: APIs, their resources and methods.

use std::collections::{BTreeMap, HashMap};

use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::access::Editing;
use super::failure::Failure;
use super::wire::{Answer, Wanted, created, parse, removed, shown};
use crate::control::{Document, Error, Resource, RestApi, WantedApi};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WantedResource {
    path_part: String,
}

pub(super) async fn create(Editing(editor): Editing, body: Bytes) -> Answer {
    let api = RestApi::new(parse::<WantedApi>(&body)?)?;
    let insert = editor.edit_api(&api.id, |document| {
        if document.rest_apis.insert(api.id.clone(), api.clone()).is_some() {
            return Err(Error::Conflict(format!("The API {} exists already", api.id)));
        }
        Ok(())
    });
    insert.await?;
    Ok(created(&api.shown()))
}

pub(super) async fn all(Editing(editor): Editing, Query(wanted): Query<Wanted>) -> Answer {
    let document = editor.document().await?;
    let mut apis = editor.filed_apis();
    apis.extend(document.rest_apis.iter().map(|(id, api)| (id.clone(), api.shown())));
    wanted.page(apis.iter().map(|(id, api)| (&**id, api.clone())))
}

pub(super) async fn one(Editing(editor): Editing, Path(id): Path<String>) -> Answer {
    if let Some(filed) = editor.filed_apis().get(&id) {
        return Ok(shown(filed));
    }
    Ok(shown(&editor.document().await?.api(&id)?.shown()))
}

pub(super) async fn patch(Editing(editor): Editing, Path(id): Path<String>, body: Bytes) -> Answer {
    let patch = parse(&body)?;
    let edit = editor.edit_api(&id, |document| {
        let api = document.api_mut(&id)?;
        api.patch(&patch)?;
        Ok(api.shown())
    });
    Ok(shown(&edit.await?))
}

pub(super) async fn delete(Editing(editor): Editing, Path(id): Path<String>) -> Answer {
    let edit = editor.edit_api(&id, |document| {
        document.unnamed(&id, None)?;
        document.rest_apis.remove(&id).map(drop).ok_or_else(|| Error::no("API"))
    });
    edit.await?;
    Ok(removed())
}

/// A resource; its methods only where they were asked for by `embed=methods`.
fn resource(resource: &Resource, query: &HashMap<String, String>) -> Value {
    let mut shown = json!(resource);
    if query.get("embed").is_none_or(|embed| embed != "methods") {
        // AWS names the methods either way.
        let names = resource.resource_methods.keys();
        let names: Map<_, _> = names.map(|name| (name.clone(), json!({}))).collect();
        if !names.is_empty() {
            shown["resourceMethods"] = names.into();
        }
    }
    shown
}

pub(super) async fn resources(
    Editing(editor): Editing,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let document = editor.document().await?;
    let resources = document.api(&id)?.resources.iter();
    wanted.page(resources.map(|(id, it)| (&**id, resource(it, &query))))
}

pub(super) async fn one_resource(
    Editing(editor): Editing,
    Path((id, at)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    Ok(shown(&resource(editor.document().await?.api(&id)?.resource(&at)?, &query)))
}

pub(super) async fn add_resource(
    Editing(editor): Editing,
    Path((id, parent)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let wanted: WantedResource = parse(&body)?;
    let edit = editor.edit_api(&id, |document| {
        Ok(json!(document.api_mut(&id)?.add_resource(&parent, &wanted.path_part)?))
    });
    Ok(created(&edit.await?))
}

pub(super) async fn remove_resource(
    Editing(editor): Editing,
    Path((id, at)): Path<(String, String)>,
) -> Answer {
    editor.edit_api(&id, |document| document.api_mut(&id)?.remove_resource(&at)).await?;
    Ok(removed())
}

type MethodPath = Path<(String, String, String)>;

fn no_method() -> Error {
    Error::no("Method")
}

/// The methods of a resource, to be changed.
fn methods<'d>(
    document: &'d mut Document,
    id: &str,
    at: &str,
) -> Result<&'d mut BTreeMap<String, Value>, Error> {
    Ok(&mut document.api_mut(id)?.resource_mut(at)?.resource_methods)
}

pub(super) async fn put_method(
    Editing(editor): Editing,
    Path((id, at, method)): MethodPath,
    body: Bytes,
) -> Answer {
    const METHODS: [&str; 8] = ["ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];
    let mut wanted: Map<String, Value> = parse(&body)?;
    if !METHODS.contains(&&*method) {
        return Err(Failure::bad_request("Invalid HTTP method specified"));
    }
    if !wanted.get("authorizationType").is_some_and(Value::is_string) {
        return Err(Failure::bad_request("a method needs an authorizationType, such as NONE"));
    }
    wanted.insert("httpMethod".into(), method.clone().into());
    wanted.entry("apiKeyRequired").or_insert(Value::Bool(false));
    let wanted = Value::from(wanted);
    let edit = editor.edit_api(&id, |document| {
        let methods = methods(document, &id, &at)?;
        if methods.insert(method.clone(), wanted.clone()).is_some() {
            return Err(Error::Conflict("Method already exists for this resource".into()));
        }
        Ok(())
    });
    edit.await?;
    Ok(created(&wanted))
}

pub(super) async fn method(Editing(editor): Editing, Path((id, at, method)): MethodPath) -> Answer {
    let document = editor.document().await?;
    let methods = &document.api(&id)?.resource(&at)?.resource_methods;
    Ok(shown(methods.get(&method).ok_or_else(no_method)?))
}

pub(super) async fn delete_method(
    Editing(editor): Editing,
    Path((id, at, method)): MethodPath,
) -> Answer {
    let edit = editor.edit_api(&id, |document| {
        let methods = methods(document, &id, &at)?;
        methods.remove(&method).map(drop).ok_or_else(no_method)
    });
    edit.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What answers the method behind the gateway: kept, and not looked at.
pub(super) async fn put_integration(
    Editing(editor): Editing,
    Path((id, at, method)): MethodPath,
    body: Bytes,
) -> Answer {
    let wanted: Map<String, Value> = parse(&body)?;
    if !wanted.get("type").is_some_and(Value::is_string) {
        return Err(Failure::bad_request("an integration needs a type, such as HTTP_PROXY"));
    }
    let edit = editor.edit_api(&id, |document| {
        let methods = methods(document, &id, &at)?;
        let method = methods.get_mut(&method).ok_or_else(no_method)?;
        method["methodIntegration"] = wanted.clone().into();
        Ok(())
    });
    edit.await?;
    Ok(created(&wanted.into()))
}

pub(super) async fn integration(
    Editing(editor): Editing,
    Path((id, at, method)): MethodPath,
) -> Answer {
    let document = editor.document().await?;
    let methods = &document.api(&id)?.resource(&at)?.resource_methods;
    let integration = methods.get(&method).and_then(|method| method.get("methodIntegration"));
    Ok(shown(integration.ok_or_else(|| Error::no("Integration"))?))
}

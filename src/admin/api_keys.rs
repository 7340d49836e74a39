//! `/apikeys`: API keys. The response to a creation has the value; later responses have it only if
//! values are kept under encryption.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{Caller, RequestEditor};
use super::error::AdminError;
use super::key_pages::{KeyPage, KeySource, read_named, read_page};
use super::payload::{
    AdminResult, PageQuery, accepted_response, created_response, ok_response, parse_body,
    render_list,
};
use super::query::is_true;
use crate::control::{CreateKey, Editor, ImportResult, KeyRecord};

/// The query of a list of keys.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListKeysQuery {
    name: Option<String>,
    customer_id: Option<String>,
    include_values: Option<String>,
    include_digests: Option<String>,
    scan: Option<usize>,
    #[serde(flatten)]
    page: PageQuery,
}

/// The query of one key.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GetKeyQuery {
    include_value: Option<String>,
}

/// True if a client requests values, or their digests, and may see them.
fn wants_values(flag: Option<&str>, caller: &Caller) -> Result<bool, AdminError> {
    let is_requested = is_true(flag);
    if is_requested {
        caller.may_see_values()?;
    }
    Ok(is_requested)
}

/// A key in a response, with its ignored overrides and policies; with its value if requested and
/// kept.
fn render_key(editor: &Editor, key: &KeyRecord, with_value: bool) -> Value {
    let mut response = key.to_aws_json();
    let keys = editor.keys();
    for (member, ignored) in [
        ("ignoredOverrides", keys.ignored_overrides(key)),
        ("ignoredPolicies", keys.ignored_policies(key)),
    ] {
        if !ignored.is_empty() {
            response[member] = ignored.into();
        }
    }
    if let Some(value) = with_value.then(|| editor.keys().reveal_value(key)).flatten() {
        response["value"] = value.into();
    }
    response
}

/// The query of `POST /apikeys`, which creates one key, or with `mode=import` those of a file.
#[derive(Default, Deserialize)]
pub(super) struct CreateKeysQuery {
    mode: Option<String>,
    format: Option<String>,
    failonwarnings: Option<String>,
}

pub(super) async fn create(
    RequestEditor(editor): RequestEditor,
    Extension(caller): Extension<Caller>,
    Query(query): Query<CreateKeysQuery>,
    body: Bytes,
) -> AdminResult {
    if let Some(mode) = &query.mode {
        if (mode.as_str(), query.format.as_deref()) != ("import", Some("csv")) {
            return Err(AdminError::bad_request("only mode=import&format=csv is served"));
        }
        let fail = is_true(query.failonwarnings.as_deref());
        let ImportResult { ids, warnings } = editor.key_importer().import(&body, fail).await?;
        return Ok(created_response(&json!({ "ids": ids, "warnings": warnings })));
    }
    if query.format.is_some() || query.failonwarnings.is_some() {
        return Err(AdminError::bad_request("format and failonwarnings are for mode=import"));
    }
    let request: CreateKey = parse_body(&body)?;
    let chooses_value = request.value.as_ref().is_some_and(|value| !value.is_empty());
    if caller.is_signed() && chooses_value && !editor.keys().keeps_values() {
        // Programs that declare a value read it back, and replace a key that is shown without.
        return Err(AdminError::bad_request(
            "value: this service keeps no values of API keys, so a program such as Terraform would replace this key in each run; set TOLLGATE_KEY_ENCRYPTION_KEY on all nodes (`tollgate keygen` prints one), leave out the value, or create the key with the bearer token",
        ));
    }
    let (record, value) = editor.keys().create(request).await?;
    let mut response = record.to_aws_json();
    if let Some(value) = value {
        response["value"] = value.into();
    }
    Ok(created_response(&response))
}

pub(super) async fn list(
    RequestEditor(editor): RequestEditor,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListKeysQuery>,
) -> AdminResult {
    let with_values = wants_values(query.include_values.as_deref(), &caller)?;
    let with_digests = wants_values(query.include_digests.as_deref(), &caller)?;
    let customer = query.customer_id.as_deref();
    let is_selected =
        |key: &KeyRecord| customer.is_none_or(|customer| key.customer_id() == Some(customer));
    let most = query.scan.unwrap_or(usize::MAX);
    let filter = customer.is_some().then_some(most);
    let KeyPage { keys, next, scanned } = match query.name.as_deref() {
        None => read_page(&editor, KeySource::All, &query.page, filter, is_selected).await?,
        Some(name) => read_named(&editor, name, &query.page, (filter, most), is_selected).await?,
    };
    let render = |key: &KeyRecord| {
        let mut shown = render_key(&editor, key, with_values);
        if let Some(digest) = key.value_sha256().filter(|_| with_digests) {
            shown["valueSha256"] = digest.into();
        }
        shown
    };
    let page: Vec<Value> = keys.iter().map(render).collect();
    let mut response = render_list(&page, next);
    if query.scan.is_some() {
        response["scanned"] = scanned.into();
    }
    Ok(ok_response(&response))
}

pub(super) async fn get(
    RequestEditor(editor): RequestEditor,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<GetKeyQuery>,
) -> AdminResult {
    let with_value = wants_values(query.include_value.as_deref(), &caller)?;
    Ok(ok_response(&render_key(&editor, &editor.keys().get(&id).await?, with_value)))
}

pub(super) async fn patch(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    body: Bytes,
) -> AdminResult {
    let patch = parse_body(&body)?;
    let record = editor.keys().edit(&id, |record| record.patch(&patch)).await?;
    Ok(ok_response(&render_key(&editor, &record, false)))
}

/// Beyond AWS: gives a key a new value. The old one is accepted for the requested overlap.
pub(super) async fn rotate(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    body: Bytes,
) -> AdminResult {
    let (record, value) = editor.key_rotator().rotate(&id, parse_body(&body)?).await?;
    let mut response = record.to_aws_json();
    response["value"] = value.into();
    Ok(created_response(&response))
}

pub(super) async fn delete(
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
) -> AdminResult {
    editor.keys().delete(&id).await?;
    Ok(accepted_response())
}

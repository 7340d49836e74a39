//! Request bodies, pages and responses of all admin endpoints.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::AdminError;
use super::unique_json::UniqueJson;
use crate::syntax;

/// The result of a handler.
pub(super) type AdminResult = Result<Response, AdminError>;

/// The most entries of a page, as in AWS.
pub(super) const MAX_PAGE_ENTRIES: usize = 500;

/// The page of a list that a client requests.
#[derive(Default, Deserialize)]
pub(super) struct PageQuery {
    position: Option<String>,
    limit: Option<String>,
}

impl PageQuery {
    /// The id after which the page starts, and its number of entries; 25 unless requested.
    pub(super) fn parse(&self) -> Result<(Option<&str>, usize), AdminError> {
        let limit = match self.limit.as_deref().map(str::parse) {
            None => 25,
            Some(Ok(limit @ 1..)) => limit,
            Some(_) => return Err(AdminError::bad_request("limit is a number from 1 to 500")),
        };
        let position = self.position.as_deref().filter(|position| !position.is_empty());
        Ok((position, limit.min(MAX_PAGE_ENTRIES)))
    }

    /// The name of a parameter that the query has, if it has any.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        let given = [("position", &self.position), ("limit", &self.limit)];
        given.into_iter().find_map(|(name, value)| value.is_some().then_some(name))
    }

    /// The response with a page of `entries`, which are in the order of their ids.
    pub(super) fn paginate<'a>(
        &self,
        entries: impl Iterator<Item = (&'a str, Value)>,
    ) -> Result<Response, AdminError> {
        let (position, limit) = self.parse()?;
        let after = entries.filter(|(id, _)| position.is_none_or(|position| *id > position));
        let mut entries: Vec<_> = after.take(limit + 1).collect();
        // A further entry means that there is a next page.
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| more).map(|(id, _)| (*id).to_owned());
        let page: Vec<Value> = entries.into_iter().map(|(_, entry)| entry).collect();
        Ok(list_response(&page, next))
    }
}

/// A page, and the start of the next.
pub(super) fn render_list(item: &[Value], position: Option<String>) -> Value {
    let mut page = json!({ "item": item });
    if let Some(position) = position {
        page["position"] = position.into();
    }
    page
}

/// The response with a page, and the start of the next.
pub(super) fn list_response(item: &[Value], position: Option<String>) -> Response {
    ok_response(&render_list(item, position))
}

/// Members whose text is a name or a reference: one short line.
const SHORT_TEXT_MEMBERS: [&str; 8] =
    ["name", "stageName", "customerId", "pathPart", "keyId", "deploymentId", "expiresAt", "path"];

/// The reason why a text in a body is invalid: too many bytes, or control characters. Line breaks
/// and tabs are valid in texts that may be long: descriptions, policies, templates, the value of a
/// patch.
fn find_text_fault(body: &Value, member: &str) -> Option<String> {
    match body {
        Value::String(text) => {
            let is_name = SHORT_TEXT_MEMBERS.contains(&member);
            let (most, lines) = if is_name { (1_024, false) } else { (65_536, true) };
            let is_control = |c: char| c.is_control() && !(lines && "\n\r\t".contains(c));
            let why = match () {
                () if text.len() > most => format!("has more than {most} bytes"),
                () if text.chars().any(is_control) => "has a control character".into(),
                () => return None,
            };
            Some(format!("{member}: the text {why}"))
        }
        Value::Array(items) => items.iter().find_map(|item| find_text_fault(item, member)),
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let own = if name.chars().any(char::is_control) || name.len() > 1_024 {
                Some("the name of a member has a control character, or over 1024 bytes".into())
            } else {
                None
            };
            // The value of a patch is checked as the member at its path.
            let patched = members.get("path").and_then(Value::as_str);
            let member = patched
                .filter(|_| name == "value")
                .map_or(&**name, |path| path.rsplit('/').next().unwrap_or_default());
            own.or_else(|| find_text_fault(value, member))
        }),
        _ => None,
    }
}

/// Parses a request body. An empty one is an empty object.
pub(super) fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, AdminError> {
    let invalid = |why| AdminError::bad_request(format!("Invalid request body: {why}"));
    let body = if body.is_empty() { b"{}" } else { body };
    // serde accepts an array of a struct's members in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(invalid("write an object, { … }".into()));
    }
    let read = serde_json::from_slice(body).map_err(|error| invalid(syntax::plain_message(error)));
    let UniqueJson(json) = read?;
    if let Some(why) = find_text_fault(&json, "") {
        return Err(invalid(why));
    }
    syntax::from_json(&json).map_err(invalid)
}

/// The largest OpenAPI document in bytes, as in AWS.
const MAX_DOCUMENT_BYTES: usize = 6 << 20;

/// Parses an OpenAPI document: JSON if it begins with a brace, and YAML otherwise.
pub(super) fn parse_document(body: &[u8]) -> Result<Value, AdminError> {
    // AWS' words for a document that cannot be read, and the reason.
    let invalid = |why: String| AdminError::bad_request(format!("Invalid OpenAPI input. {why}"));
    if body.len() > MAX_DOCUMENT_BYTES {
        return Err(invalid(format!("it has more than {MAX_DOCUMENT_BYTES} bytes")));
    }
    let document = if body.trim_ascii_start().starts_with(b"{") {
        let read = serde_json::from_slice(body);
        read.map(|UniqueJson(json)| json).map_err(|error| invalid(syntax::plain_message(error)))?
    } else {
        let text = std::str::from_utf8(body).map_err(|_| invalid("it is not in UTF-8".into()))?;
        syntax::from_request_yaml(text).map_err(invalid)?
    };
    match find_text_fault(&document, "") {
        Some(why) => Err(invalid(why)),
        None => Ok(document),
    }
}

/// 201 with a created resource.
pub(super) fn created_response(made: &Value) -> Response {
    (StatusCode::CREATED, Json(made)).into_response()
}

/// 200 with a resource.
pub(super) fn ok_response(there: &Value) -> Response {
    Json(there).into_response()
}

/// 202 for a deletion.
pub(super) fn accepted_response() -> Response {
    StatusCode::ACCEPTED.into_response()
}

/// 204 for a deletion of a part of an API.
pub(super) fn deleted_response() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

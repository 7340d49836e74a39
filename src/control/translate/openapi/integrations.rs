//! The backend of an operation, from and to AWS' extension of OpenAPI.
//!
//! A document has words in lower case where the API has them in upper case, and the responses by
//! their patterns instead of their status codes.

use serde_json::{Map, Value, json};

use super::{invalid, invalid_members, object_at, text_at};
use crate::control::model::{ControlError, Integration, ResponseOwner, StatusResponse};

/// The pattern of the response that has none.
const DEFAULT: &str = "default";
/// The members with a word that the API writes in upper case.
const WORDS: [&str; 4] = ["type", "passthroughBehavior", "contentHandling", "connectionType"];

/// The integration of an operation, if it has one.
///
/// # Errors
/// If a member is unknown or of another type.
pub(super) fn read_integration(
    extension: &Value,
    at: &str,
) -> Result<Option<Integration>, ControlError> {
    let Some(members) = object_at(extension, at)?.filter(|members| !members.is_empty()) else {
        return Ok(None);
    };
    let mut members = members.clone();
    let responses = members.remove("responses").unwrap_or_default();
    // Only HTTP APIs have it. Documents for both kinds of APIs have it as well.
    members.remove("payloadFormatVersion");
    uppercase_words(&mut members);
    let integration = Integration::new(members);
    let mut integration = integration.map_err(|error| invalid_members(at, &error))?;
    let at = format!("{at}.responses");
    for (pattern, response) in object_at(&responses, &at)?.into_iter().flatten() {
        let at = format!("{at}.{pattern}");
        let mut members = object_at(response, &at)?.cloned().unwrap_or_default();
        let code = text_at(&members.remove("statusCode").unwrap_or_default(), &at)?;
        let code = code.ok_or_else(|| invalid(&at, "statusCode: it is missing"))?;
        uppercase_words(&mut members);
        if pattern != DEFAULT {
            members.insert("selectionPattern".into(), pattern.clone().into());
        }
        let response = StatusResponse::new(ResponseOwner::Integration, &code, members);
        let response = response.map_err(|error| invalid_members(&at, &error))?;
        if integration.responses.insert(code, response).is_some() {
            return Err(invalid(&at, "another response has its statusCode"));
        }
    }
    Ok(Some(integration))
}

fn uppercase_words(members: &mut Map<String, Value>) {
    for word in WORDS {
        if let Some(Value::String(text)) = members.get_mut(word) {
            text.make_ascii_uppercase();
        }
    }
}

/// An integration, in the API's members, as a document has it.
pub(super) fn write_integration(integration: &Value) -> Value {
    let mut members = integration.as_object().cloned().unwrap_or_default();
    let responses = members.remove("integrationResponses").unwrap_or_default();
    for word in ["type", "passthroughBehavior"] {
        if let Some(Value::String(text)) = members.get_mut(word) {
            text.make_ascii_lowercase();
        }
    }
    let mut written = Map::new();
    for response in responses.as_object().into_iter().flat_map(Map::values) {
        let mut response = response.clone();
        let pattern = response.as_object_mut().and_then(|it| it.remove("selectionPattern"));
        let pattern = pattern.as_ref().and_then(Value::as_str).filter(|it| !it.is_empty());
        written.insert(pattern.unwrap_or(DEFAULT).into(), response);
    }
    if !written.is_empty() {
        members.insert("responses".into(), written.into());
    }
    json!(members)
}

//! Finds keys and plans by what people call them: an id, or a name that only one of them has.
//!
//! An id precedes a name. A name that is not unique is an error with the ids: nothing is guessed.

use axum::http::StatusCode;
use serde_json::Value;

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};

/// The API key with this id or name.
pub(super) async fn find_key(admin: &AdminClient, text: &str) -> Result<Value, CommandError> {
    // The service selects by the beginning of a name.
    let named = format!("/apikeys?name={}", encode_path_segment(text));
    find(admin, ("API key", "keys"), text, ["/apikeys", &named]).await
}

/// The usage plan with this id or name.
pub(super) async fn find_plan(admin: &AdminClient, text: &str) -> Result<Value, CommandError> {
    find(admin, ("usage plan", "plans"), text, ["/usageplans", "/usageplans"]).await
}

/// The id of the API key with this id or name.
pub(super) async fn find_key_id(admin: &AdminClient, text: &str) -> Result<String, CommandError> {
    Ok(resource_id(&find_key(admin, text).await?))
}

/// The id of the usage plan with this id or name.
pub(super) async fn find_plan_id(admin: &AdminClient, text: &str) -> Result<String, CommandError> {
    Ok(resource_id(&find_plan(admin, text).await?))
}

/// The id of a resource in a response.
pub(super) fn resource_id(resource: &Value) -> String {
    resource["id"].as_str().unwrap_or_default().to_owned()
}

/// Finds one resource of a kind, which has a name and a command, under the first path by its id,
/// and else by its name in the list under the second.
async fn find(
    admin: &AdminClient,
    (kind, command): (&str, &str),
    text: &str,
    [resources, list]: [&str; 2],
) -> Result<Value, CommandError> {
    if !text.is_empty() {
        match admin.get(&format!("{resources}/{}", encode_path_segment(text))).await {
            Err(CommandError::Rejected(StatusCode::NOT_FOUND, _)) => {}
            found => return found,
        }
    }
    let mut named = admin.list_all(list).await?;
    named.retain(|resource| resource["name"] == *text);
    if named.len() > 1 {
        let ids: Vec<String> = named.iter().map(resource_id).collect();
        let why = format!("`{text}` names {} {kind}s; give the id: {}", ids.len(), ids.join(", "));
        return Err(CommandError::AmbiguousName(why));
    }
    named.pop().ok_or_else(|| {
        let why = format!(
            "there is no {kind} with the id or name `{text}`; `tollgate {command} list` lists them"
        );
        CommandError::Rejected(StatusCode::NOT_FOUND, why)
    })
}

//! `/tags/{arn}`: tags of APIs, stages, plans and keys.
//!
//! Only the path of an ARN such as `arn:aws:apigateway:REGION::/usageplans/ID` is read.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Bytes;
use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

use super::auth::RequestEditor;
use super::error::AdminError;
use super::payload::{AdminResult, ok_response, parse_body};
use crate::control::{ControlError, Document, Editor};

type Tags = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutTags {
    tags: Tags,
}

/// The resource of an ARN.
enum TaggedResource {
    Key(String),
    Api(String),
    Stage(String, String),
    Plan(String),
}

impl TaggedResource {
    fn parse_arn(arn: &str) -> Result<Self, AdminError> {
        let path = arn.rsplit(':').next().unwrap_or_default().trim_start_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["apikeys", id] => Ok(Self::Key(id.into())),
            ["restapis", id] => Ok(Self::Api(id.into())),
            ["restapis", id, "stages", name] => Ok(Self::Stage(id.into(), name.into())),
            ["usageplans", id] => Ok(Self::Plan(id.into())),
            _ => Err(AdminError::bad_request("Invalid resource ARN; it ends like :/usageplans/ID")),
        }
    }

    /// The resource's tags in the document, which has no keys.
    fn tags_in<'d>(&self, document: &'d mut Document) -> Result<&'d mut Tags, ControlError> {
        match self {
            Self::Key(_) => Err(ControlError::not_found("API Key")),
            Self::Api(id) => Ok(&mut document.api_mut(id)?.spec.tags),
            Self::Plan(id) => Ok(&mut document.plan_mut(id)?.spec.tags),
            Self::Stage(id, name) => {
                let stage = document.api_mut(id)?.stages.get_mut(name);
                Ok(stage.ok_or_else(|| ControlError::not_found("stage"))?.tags())
            }
        }
    }
}

async fn edit_tags(editor: &Editor, arn: &str, change: impl Fn(&mut Tags)) -> AdminResult {
    let tagged = TaggedResource::parse_arn(arn)?;
    let edit = |document: &mut Document| tagged.tags_in(document).map(&change);
    match &tagged {
        TaggedResource::Key(id) => {
            let change = |record: &mut crate::control::KeyRecord| {
                change(record.tags());
                Ok(())
            };
            editor.keys().edit(id, change).await?;
        }
        TaggedResource::Api(id) | TaggedResource::Stage(id, _) => {
            editor.apis().edit(id, edit).await?;
        }
        TaggedResource::Plan(id) => editor.plans().edit(id, edit).await?,
    }
    Ok(no_content())
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

pub(super) async fn put(
    RequestEditor(editor): RequestEditor,
    Path(arn): Path<String>,
    body: Bytes,
) -> AdminResult {
    let PutTags { tags } = parse_body(&body)?;
    edit_tags(&editor, &arn, |current| current.extend(tags.clone())).await
}

/// Removes the tags in the query: `tagKeys=a&tagKeys=b`.
pub(super) async fn remove(
    RequestEditor(editor): RequestEditor,
    Path(arn): Path<String>,
    RawQuery(query): RawQuery,
) -> AdminResult {
    let query = query.unwrap_or_default();
    let named = |pair: &str| {
        let key = pair.strip_prefix("tagKeys=")?.replace('+', " ");
        Some(percent_encoding::percent_decode_str(&key).decode_utf8().ok()?.into_owned())
    };
    let removed: BTreeSet<String> = query.split('&').filter_map(named).collect();
    edit_tags(&editor, &arn, |current| current.retain(|key, _| !removed.contains(key))).await
}

pub(super) async fn get(
    RequestEditor(editor): RequestEditor,
    Path(arn): Path<String>,
) -> AdminResult {
    let tagged = match TaggedResource::parse_arn(&arn)? {
        TaggedResource::Key(id) => editor.keys().get(&id).await?.to_aws_json(),
        TaggedResource::Api(id) => editor.apis().get(&id).await?.to_aws_json(),
        TaggedResource::Stage(id, name) => {
            editor.apis().get(&id).await?.stage(&name)?.to_aws_json()
        }
        TaggedResource::Plan(id) => editor.plans().get(&id).await?,
    };
    let tags = tagged.get("tags").cloned().unwrap_or_else(|| json!({}));
    Ok(ok_response(&json!({ "tags": tags })))
}

//! `/tags/{arn}`: what people call APIs, stages, plans and keys.
//!
//! Of an ARN, `arn:aws:apigateway:REGION::/usageplans/ID`, only the path counts.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

use super::access::Editing;
use super::failure::Failure;
use super::wire::{Answer, parse, shown};
use crate::control::{Document, Editor, Error};

type Tags = BTreeMap<String, String>;

#[derive(Deserialize)]
struct WantedTags {
    tags: Tags,
}

/// Which resource an ARN names.
enum Tagged {
    Key(String),
    Api(String),
    Stage(String, String),
    Plan(String),
}

impl Tagged {
    fn read(arn: &str) -> Result<Self, Failure> {
        let path = arn.rsplit(':').next().unwrap_or_default().trim_start_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["apikeys", id] => Ok(Self::Key(id.into())),
            ["restapis", id] => Ok(Self::Api(id.into())),
            ["restapis", id, "stages", name] => Ok(Self::Stage(id.into(), name.into())),
            ["usageplans", id] => Ok(Self::Plan(id.into())),
            _ => Err(Failure::bad_request("Invalid resource ARN; it ends like :/usageplans/ID")),
        }
    }

    /// Its tags in the document; a key's are not there.
    fn of<'d>(&self, document: &'d mut Document) -> Result<&'d mut Tags, Error> {
        match self {
            Self::Key(_) => Err(Error::no("API Key")),
            Self::Api(id) => Ok(&mut document.api_mut(id)?.wanted.tags),
            Self::Plan(id) => Ok(&mut document.plan_mut(id)?.wanted.tags),
            Self::Stage(id, name) => {
                let stage = document.api_mut(id)?.stages.get_mut(name);
                Ok(stage.ok_or_else(|| Error::no("stage"))?.tags())
            }
        }
    }
}

async fn edit(editor: &Editor, arn: &str, change: impl Fn(&mut Tags)) -> Answer {
    let tagged = Tagged::read(arn)?;
    let edit = |document: &mut Document| tagged.of(document).map(&change);
    match &tagged {
        Tagged::Key(id) => {
            let change = |record: &mut crate::control::KeyRecord| {
                change(record.tags());
                Ok(())
            };
            editor.edit_key(id, change).await?;
        }
        Tagged::Api(id) | Tagged::Stage(id, _) => editor.edit_api(id, edit).await?,
        Tagged::Plan(id) => editor.edit_plan(id, edit).await?,
    }
    Ok(no_content())
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

pub(super) async fn put(Editing(editor): Editing, Path(arn): Path<String>, body: Bytes) -> Answer {
    let WantedTags { tags } = parse(&body)?;
    edit(&editor, &arn, |known| known.extend(tags.clone())).await
}

/// Which tags go stands in the query, once for each: `tagKeys=a&tagKeys=b`.
pub(super) async fn remove(
    Editing(editor): Editing,
    Path(arn): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let query = query.unwrap_or_default();
    let named = |pair: &str| {
        let key = pair.strip_prefix("tagKeys=")?.replace('+', " ");
        Some(percent_encoding::percent_decode_str(&key).decode_utf8().ok()?.into_owned())
    };
    let gone: Vec<String> = query.split('&').filter_map(named).collect();
    edit(&editor, &arn, |known| known.retain(|key, _| !gone.contains(key))).await
}

pub(super) async fn get(Editing(editor): Editing, Path(arn): Path<String>) -> Answer {
    let tags = match Tagged::read(&arn)? {
        Tagged::Key(id) => editor.key(&id).await?.tags().clone(),
        tagged => tagged.of(&mut editor.document().await?)?.clone(),
    };
    Ok(shown(&json!({ "tags": tags })))
}

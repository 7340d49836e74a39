//! `/apikeys`: keys, each value told once, when it is made.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::json;

use super::wire::{Answer, Wanted, created, list, parse, removed, shown};
use super::{Admin, failure::Failure};
use crate::control::Imported;

/// What a list of keys is narrowed to.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    name: Option<String>,
    customer_id: Option<String>,
    #[serde(flatten)]
    wanted: Wanted,
}

/// What `POST /apikeys` is for: one key, or with `mode=import` a file of them.
#[derive(Default, Deserialize)]
pub(super) struct Door {
    mode: Option<String>,
    format: Option<String>,
    failonwarnings: Option<String>,
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    Query(door): Query<Door>,
    body: Bytes,
) -> Answer {
    if let Some(wanted) = &door.mode {
        if (wanted.as_str(), door.format.as_deref()) != ("import", Some("csv")) {
            return Err(Failure::bad_request("only mode=import&format=csv is served"));
        }
        let fail = door.failonwarnings.is_some_and(|fail| fail.eq_ignore_ascii_case("true"));
        let Imported { ids, warnings } = admin.editor.import(&body, fail).await?;
        return Ok(created(&json!({ "ids": ids, "warnings": warnings })));
    }
    let (record, value) = admin.editor.create_key(parse(&body)?).await?;
    let mut told = record.shown();
    told["value"] = value.into();
    Ok(created(&told))
}

/// Keys are read in pages until the one asked for is full, so that a filter finds what is far back.
pub(super) async fn all(State(admin): State<Arc<Admin>>, Query(filter): Query<Filter>) -> Answer {
    let (position, limit) = filter.wanted.read()?;
    let mut position = position.map(str::to_owned);
    let mut page = Vec::new();
    loop {
        let keys = admin.editor.keys(position.as_deref(), limit + 1).await?;
        let last = keys.len() <= limit;
        for key in keys {
            let named = filter
                .name
                .as_deref()
                .is_none_or(|name| key.name().is_some_and(|own| own.starts_with(name)));
            let held =
                filter.customer_id.is_none() || filter.customer_id.as_deref() == key.customer_id();
            if named && held {
                if page.len() == limit {
                    return Ok(list(&page, position));
                }
                page.push(key.shown());
            }
            position = Some(key.id);
        }
        if last {
            return Ok(list(&page, None));
        }
    }
}

pub(super) async fn one(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer {
    Ok(shown(&admin.editor.key(&id).await?.shown()))
}

pub(super) async fn patch(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let patch = parse(&body)?;
    Ok(shown(&admin.editor.edit_key(&id, |record| record.patch(&patch)).await?.shown()))
}

pub(super) async fn delete(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer {
    admin.editor.delete_key(&id).await?;
    Ok(removed())
}

//! `/apikeys`: keys, each value told once, when it is made; again only where values are kept.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{Caller, Editing};
use super::failure::Failure;
use super::wire::{Answer, LONGEST, Wanted, created, list, parse, removed, shown};
use crate::control::{Editor, Imported, KeyRecord};

/// What a list of keys is narrowed to.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    name: Option<String>,
    customer_id: Option<String>,
    include_values: Option<String>,
    #[serde(flatten)]
    wanted: Wanted,
}

/// What is told of one key.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wish {
    include_value: Option<String>,
}

/// Whether a client may see values, and wants to.
fn reveals(wish: Option<&str>, caller: &Caller) -> Result<bool, Failure> {
    let wanted = wish.is_some_and(|wish| wish.eq_ignore_ascii_case("true"));
    if wanted {
        caller.may_see_values()?;
    }
    Ok(wanted)
}

/// A key as it is shown, with what is ignored of it; with its value where that is wanted and kept.
fn tell(editor: &Editor, key: &KeyRecord, with_value: bool) -> Value {
    let mut told = key.shown();
    let ignored = editor.ignored(key);
    if !ignored.is_empty() {
        told["ignoredOverrides"] = ignored.into();
    }
    if let Some(value) = with_value.then(|| editor.value_of(key)).flatten() {
        told["value"] = value.into();
    }
    told
}

/// What `POST /apikeys` is for: one key, or with `mode=import` a file of them.
#[derive(Default, Deserialize)]
pub(super) struct Door {
    mode: Option<String>,
    format: Option<String>,
    failonwarnings: Option<String>,
}

pub(super) async fn create(
    Editing(editor): Editing,
    Query(door): Query<Door>,
    body: Bytes,
) -> Answer {
    if let Some(wanted) = &door.mode {
        if (wanted.as_str(), door.format.as_deref()) != ("import", Some("csv")) {
            return Err(Failure::bad_request("only mode=import&format=csv is served"));
        }
        let fail = door.failonwarnings.is_some_and(|fail| fail.eq_ignore_ascii_case("true"));
        let Imported { ids, warnings } = editor.import(&body, fail).await?;
        return Ok(created(&json!({ "ids": ids, "warnings": warnings })));
    }
    let (record, value) = editor.create_key(parse(&body)?).await?;
    let mut told = record.shown();
    told["value"] = value.into();
    Ok(created(&told))
}

/// Keys are read in pages until the one asked for is full, so that a filter finds what is far back.
pub(super) async fn all(
    Editing(editor): Editing,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<Filter>,
) -> Answer {
    let with_values = reveals(filter.include_values.as_deref(), &caller)?;
    let (position, limit) = filter.wanted.read()?;
    let mut position = position.map(str::to_owned);
    let mut page = Vec::new();
    let is_filtered = filter.name.is_some() || filter.customer_id.is_some();
    let many = if is_filtered { LONGEST + 1 } else { limit + 1 };
    loop {
        let keys = editor.keys(position.as_deref(), many).await?;
        let last = keys.len() < many;
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
                page.push(tell(&editor, &key, with_values));
            }
            position = Some(key.id);
        }
        if last {
            return Ok(list(&page, None));
        }
    }
}

pub(super) async fn one(
    Editing(editor): Editing,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(wish): Query<Wish>,
) -> Answer {
    let with_value = reveals(wish.include_value.as_deref(), &caller)?;
    Ok(shown(&tell(&editor, &editor.key(&id).await?, with_value)))
}

pub(super) async fn patch(Editing(editor): Editing, Path(id): Path<String>, body: Bytes) -> Answer {
    let patch = parse(&body)?;
    let record = editor.edit_key(&id, |record| record.patch(&patch)).await?;
    Ok(shown(&tell(&editor, &record, false)))
}

/// Beyond AWS: another value, beside the old one for as long as is wanted.
pub(super) async fn rotate(
    Editing(editor): Editing,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let (record, value) = editor.rotate_key(&id, parse(&body)?).await?;
    let mut told = record.shown();
    told["value"] = value.into();
    Ok(created(&told))
}

pub(super) async fn delete(Editing(editor): Editing, Path(id): Path<String>) -> Answer {
    editor.delete_key(&id).await?;
    Ok(removed())
}

//! `GET /audit`: who changed what, the newest first.

use axum::extract::Query;
use serde::Deserialize;

use super::access::Editing;
use super::wire::{Answer, Wanted, list};

/// What the log is narrowed to.
#[derive(Default, Deserialize)]
pub(super) struct Filter {
    path: Option<String>,
    #[serde(flatten)]
    wanted: Wanted,
}

pub(super) async fn all(Editing(editor): Editing, Query(filter): Query<Filter>) -> Answer {
    let (position, limit) = filter.wanted.read()?;
    let under = filter.path.as_deref().unwrap_or_default();
    let (page, next) = editor.audit(position, limit, under).await?;
    Ok(list(&page, next))
}

//! `GET /audit`: the audit log, newest changes first.

use axum::extract::Query;
use serde::Deserialize;

use super::auth::RequestEditor;
use super::payload::{AdminResult, PageQuery, list_response};

/// The query of the log.
#[derive(Default, Deserialize)]
pub(super) struct AuditQuery {
    path: Option<String>,
    #[serde(flatten)]
    page: PageQuery,
}

pub(super) async fn list(
    RequestEditor(editor): RequestEditor,
    Query(query): Query<AuditQuery>,
) -> AdminResult {
    let (position, limit) = query.page.parse()?;
    let under = query.path.as_deref().unwrap_or_default();
    let (page, next) = editor.audit_log().page(position, limit, under).await?;
    Ok(list_response(&page, next))
}

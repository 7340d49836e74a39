//! `POST /usageplans/{id}/preview`: the checks that this node has recorded, judged as if the plan were
//! changed. Beyond AWS.
//!
//! Nothing changes, so a token that may only read is enough. Files are read and checks judged by a
//! blocking thread, one preview at a time, so that neither checks nor other admin requests wait.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Admin;
use super::auth::RequestEditor;
use super::error::AdminError;
use super::payload::{AdminResult, MAX_PAGE_ENTRIES, ok_response, parse_body};
use crate::catalog::{ApiKey, Catalog};
use crate::control::Patch;
use crate::engine::{
    MergedLines, RecordSource, Recorder, WhatIf, WhatIfReport, key_ids, read_recent,
};
use crate::settings::RecordSettings;

/// The newest part of the record that is judged, in bytes.
const MAX_RECORD_BYTES: u64 = 32 << 20;
/// The most API keys that are looked up.
const MAX_KEYS: usize = 10_000;

/// True if a path is that of a preview, which is read with POST.
pub(super) fn is_preview(path: &str) -> bool {
    path.starts_with("/usageplans/") && path.ends_with("/preview")
}

pub(super) async fn preview(
    State(admin): State<Arc<Admin>>,
    RequestEditor(editor): RequestEditor,
    Path(id): Path<String>,
    body: Bytes,
) -> AdminResult {
    let patch: Patch = parse_body(&body)?;
    let plans = editor.plans();
    let changed = plans.preview(&id, |document| document.plan_mut(&id)?.patch(&patch)).await?;
    let settings = record_settings(admin.recorder.as_deref())?.clone();
    let _turn = admin.preview_turn.lock().await;
    let (texts, ids) = in_background(move || read_record(&settings)).await??;
    let found = editor.keys().load_api_keys(&ids).await?;
    let keys: Vec<Arc<ApiKey>> = found.into_iter().flatten().collect();
    let report = in_background(move || judge(&changed, keys, &texts)).await??;
    Ok(ok_response(&render(&report)))
}

/// The record of this node.
fn record_settings(recorder: Option<&Recorder>) -> Result<&RecordSettings, AdminError> {
    let settings = recorder.map(Recorder::settings).ok_or_else(|| {
        conflict("this node records no checks to judge: start nodes with --record FILE")
    })?;
    if !settings.requests {
        return Err(conflict(
            "this node records checks without their requests: start nodes with --record-requests true",
        ));
    }
    Ok(settings)
}

fn conflict(why: impl Into<String>) -> AdminError {
    AdminError::new(StatusCode::CONFLICT, "ConflictException", why)
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AdminError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a preview failed");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        AdminError::new(status, "InternalServerErrorException", "see the service's log")
    })
}

/// The newest lines of the record, and the ids of the API keys in them.
fn read_record(settings: &RecordSettings) -> Result<(Vec<String>, Vec<String>), AdminError> {
    let texts = read_recent(settings, MAX_RECORD_BYTES);
    let texts =
        texts.map_err(|why| conflict(format!("this node's record cannot be read: {why}")))?;
    let ids = key_ids(texts.iter().flat_map(|text| text.lines()), MAX_KEYS);
    Ok((texts, ids.into_iter().map(Into::into).collect()))
}

fn judge(
    catalog: &Catalog,
    keys: Vec<Arc<ApiKey>>,
    texts: &[String],
) -> Result<WhatIfReport, AdminError> {
    let keys = keys.into_iter().map(|key| (Box::from(&*key.id), key)).collect();
    let mut what_if = WhatIf::new(catalog, keys);
    let sources = texts.iter().map(|text| RecordSource::new(text.as_bytes())).collect();
    let mut lines = MergedLines::new(sources);
    while let Some(line) = lines.next().transpose().map_err(|why| conflict(why.to_string()))? {
        what_if.judge_line(&line);
    }
    let mut report = what_if.into_report();
    report.add_unreadable(lines.unreadable());
    Ok(report)
}

fn render(report: &WhatIfReport) -> Value {
    let mut rows = report.rows();
    let count = rows.len();
    rows.truncate(MAX_PAGE_ENTRIES);
    let not_judged = report.unplaced.iter().map(|(reason, checks)| {
        let (reason, examples) = (reason.as_str(), &checks.examples);
        json!({ "reason": reason, "checks": checks.count, "examples": examples })
    });
    json!({
        "checks": report.decisions,
        "firstMs": report.period.map(|(first, _)| first.get() / 1_000),
        "lastMs": report.period.map(|(_, last)| last.get() / 1_000),
        "refusedBefore": report.refused_before,
        "refusedAfter": report.refused_after,
        "newlyRefused": report.newly_refused,
        "newlyAllowed": report.newly_allowed,
        "notJudged": not_judged.collect::<Vec<_>>(),
        "rows": count,
        "item": rows,
    })
}

//! `/policies`: the policies of the catalog file, and the usage and reset of one of their keys.
//! Beyond AWS, which has none.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{RequestEditor, RequestPolicies};
use super::payload::{AdminResult, PageQuery, created_response, ok_response, parse_body};
use crate::control::PolicyUsage;
use crate::judge::LimitStatus;
use crate::limit::Limit;
use crate::time::Micros;

/// The query of a key's usage.
#[derive(Deserialize)]
pub(super) struct UsageQuery {
    #[serde(default)]
    key: String,
}

/// The body of a reset.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResetKey {
    key: String,
}

pub(super) async fn list(
    RequestEditor(editor): RequestEditor,
    Query(page): Query<PageQuery>,
) -> AdminResult {
    let policies = editor.policies();
    page.paginate(policies.iter().map(|(name, policy)| (&**name, policy.clone())))
}

pub(super) async fn usage(
    RequestPolicies(ledger): RequestPolicies,
    Path(policy): Path<String>,
    Query(UsageQuery { key }): Query<UsageQuery>,
) -> AdminResult {
    Ok(ok_response(&render(&policy, &ledger.usage(&policy, &key).await?)))
}

pub(super) async fn reset(
    RequestPolicies(ledger): RequestPolicies,
    Path(policy): Path<String>,
    body: Bytes,
) -> AdminResult {
    let ResetKey { key } = parse_body(&body)?;
    Ok(created_response(&render(&policy, &ledger.reset(&policy, &key).await?)))
}

fn render(policy: &str, usage: &PolicyUsage) -> Value {
    let limits: Vec<Value> = usage.limits.iter().map(render_limit).collect();
    json!({ "policy": policy, "key": usage.key, "limits": limits })
}

fn render_limit((limit, status): &(Arc<Limit>, LimitStatus)) -> Value {
    // No wait helps with a limit of nothing.
    let wait = Some(status.retry_after).filter(|wait| *wait != Micros::MAX);
    json!({
        "name": &**limit.name(),
        "unit": limit.unit().as_str(),
        "limit": limit.capacity(),
        "remaining": status.remaining,
        "resetMs": status.reset.as_millis_ceil(),
        "retryAfterMs": wait.map(Micros::as_millis_ceil),
        "shadow": limit.shadow(),
    })
}

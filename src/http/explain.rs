//! The explanation of a check in JSON, for the admin listener: the response that the check would
//! get, and for each limit where it is declared, its pattern, its cost and what is used.
//!
//! The check endpoints never say where a limit is declared.

use std::sync::Arc;

use serde_json::{Value, json};

use super::decision_body::{self, LimitBody};
use super::request::CheckBody;
use crate::catalog::ApiKey;
use crate::control::{LimitPlace, LimitSource, LimitSources};
use crate::engine::{Decision, DecisionStatus, Engine, ExplainedLimit, Explanation, Reservation};
use crate::limit::Charge;
use crate::time::Micros;
use crate::transport::Problem;

/// Explains the check in `body`. A check that would be refused as a problem is explained by it.
///
/// # Errors
/// If the body is no check.
pub async fn explain(engine: &Engine, body: &[u8]) -> Result<Value, Problem> {
    let body = CheckBody::parse(body)?;
    let (client, request) = body.to_check_request(true)?;
    let reservation = body.to_reservation()?;
    let explained = Box::pin(engine.explain(client, &request, reservation.as_ref())).await;
    let Explanation { decision, catalog, limits } = match explained {
        Ok(explanation) => explanation,
        Err(error) => {
            let mut explanation = problem_json(&Problem::from(error));
            explanation["limits"] = json!([]);
            return Ok(explanation);
        }
    };
    let live = Arc::clone(engine.live());
    // The file is read again, which may take a while.
    let sources = tokio::task::spawn_blocking(move || LimitSources::read(&live, catalog)).await;
    let sources = sources.ok();
    let mut json = Vec::new();
    decision_body::write_json(&mut json, &decision, true);
    let mut explanation: Value = serde_json::from_slice(&json).unwrap_or_default();
    let key = decision.key.as_deref();
    explanation["limits"] =
        limits.iter().map(|limit| limit_json(limit, &decision, sources.as_ref(), key)).collect();
    Ok(explanation)
}

fn problem_json(problem: &Problem) -> Value {
    let mut json = Vec::new();
    problem.write_json(&mut json);
    serde_json::from_slice(&json).unwrap_or_default()
}

fn limit_json(
    explained: &ExplainedLimit,
    decision: &Decision,
    sources: Option<&LimitSources>,
    key: Option<&ApiKey>,
) -> Value {
    let ExplainedLimit { charge, outcome } = explained;
    let mut row = match outcome {
        Some(outcome) => serde_json::to_value(LimitBody::from(outcome)).unwrap_or_default(),
        None => json!({
            "name": &**charge.limit.name(),
            "unit": charge.limit.unit().as_str(),
            "limit": charge.limit.capacity(),
        }),
    };
    row["cost"] = charge.cost.into();
    row["consistency"] = if charge.limit.leased() { "leased" } else { "exact" }.into();
    if let Some(outcome) = outcome {
        let status = &outcome.status;
        let made = if is_made(charge, status.fits, decision) { charge.cost } else { 0 };
        let left = i128::from(status.remaining) - i128::from(status.debt);
        let used = i128::from(charge.limit.capacity()) - left - i128::from(made);
        row["used"] = i64::try_from(used).unwrap_or(i64::MAX).into();
        row["fits"] = status.fits.into();
        row["refuses"] = outcome.refuses.into();
        if status.retry_after == Micros::MAX {
            row["retry_after_ms"] = Value::Null;
        }
    }
    match sources.and_then(|sources| sources.find(&charge.limit, key)) {
        Some(source) => add_source(&mut row, source),
        None => row["source"] = Value::Null,
    }
    row
}

fn add_source(row: &mut Value, source: LimitSource) {
    let LimitSource { pattern, is_override, place } = source;
    row["pattern"] = pattern.into();
    row["override"] = is_override.into();
    row["source"] = match place {
        LimitPlace::File { file, line } => json!({ "file": file, "line": line }),
        LimitPlace::Resource(path) => json!({ "resource": path }),
    };
}

/// True if the status counts the charge as made.
fn is_made(charge: &Charge, fits: bool, decision: &Decision) -> bool {
    let is_replayed =
        matches!(decision.reservation.as_deref(), Some(Reservation::DryRun { replayed: true, .. }));
    match decision.status {
        DecisionStatus::Reported => true,
        DecisionStatus::Allowed => fits && !is_replayed,
        _ => charge.is_forced(),
    }
}

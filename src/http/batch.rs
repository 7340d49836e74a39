//! `POST /check/batch`: many checks in one request, each judged on its own.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::request::{CheckBody, parse_problem};
use super::{WorkerState, check, count_response, decision_body};
use crate::engine::Decision;
use crate::object::Object;
use crate::store::CheckContext;
use crate::transport::{CallerIds, Problem, read_body};

/// The largest request body in bytes: room for [`MAX_CHECKS`] checks of 1 KiB.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The most checks in one request.
const MAX_CHECKS: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchBody<'a> {
    #[serde(borrow)]
    checks: Vec<&'a RawValue>,
}

pub(super) async fn batch(State(state): State<Arc<WorkerState>>, request: Request) -> Response {
    let response = match decide(&state, request).await {
        Ok(results) => batch_response(&results),
        Err(problem) => problem.into_response(),
    };
    count_response(&state, "batch", response)
}

async fn decide(
    state: &WorkerState,
    request: Request,
) -> Result<Vec<Result<Decision, Problem>>, Problem> {
    let access = &state.shared.access;
    let key_id_allowed = access.authenticate(request.headers(), request.extensions())?;
    let context = state.engine.request_context("check batch", || CallerIds::of(request.headers()));
    let body = read_body(request.into_body(), MAX_BODY_BYTES).await?;
    let Object(batch) = serde_json::from_slice::<Object<BatchBody<'_>>>(&body)
        .map_err(|_| parse_problem::<Object<BatchBody<'_>>>(&body))?;
    if batch.checks.len() > MAX_CHECKS {
        let detail = format!(
            "at most {MAX_CHECKS} checks are allowed in one request, and this one has {}",
            batch.checks.len()
        );
        return Err(Problem::bad_request("checks", detail));
    }
    let bodies: Vec<_> =
        batch.checks.iter().map(|raw| CheckBody::parse(raw.get().as_bytes())).collect();
    if bodies.iter().flatten().any(CheckBody::is_special) {
        let requests = bodies.iter().flatten();
        let requests = requests.filter_map(|body| body.to_check_request(key_id_allowed).ok());
        state.engine.limit_charges(requests).await?;
        return Ok(decide_each(state, &bodies, key_id_allowed, &context).await);
    }
    let requests = bodies.iter().map(|body| match body {
        Ok(body) => body.to_check_request(key_id_allowed),
        Err(problem) => Err(problem.clone()),
    });
    state.engine.check_all(requests, &context).await
}

/// Decides checks of which some open reservations, or are dry runs. They reach the store together and in order.
async fn decide_each(
    state: &WorkerState,
    bodies: &[Result<CheckBody<'_>, Problem>],
    key_id_allowed: bool,
    context: &CheckContext,
) -> Vec<Result<Decision, Problem>> {
    let decided = bodies.iter().map(async |body| {
        let body = body.as_ref().map_err(Clone::clone)?;
        check::decide_any(state, body, key_id_allowed, context).await
    });
    join_all(decided).await
}

fn batch_response(results: &[Result<Decision, Problem>]) -> Response {
    let mut body = Vec::with_capacity(512 * results.len() + 32);
    body.extend_from_slice(br#"{"results":["#);
    for (index, result) in results.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        match result {
            Ok(decision) => decision_body::write_json(&mut body, decision, true),
            Err(problem) => problem.write_json(&mut body),
        }
    }
    body.extend_from_slice(b"]}");
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (content_type, Body::from(body)).into_response()
}

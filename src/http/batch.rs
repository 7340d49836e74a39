//! `POST /check/batch`: many checks in one body, each judged on its own.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::request::{CheckRequest, explain};
use super::{Node, Problem, answer, body, check, counted};
use crate::engine::Decision;
use crate::object::Object;

/// The largest body in bytes: room for [`MAX_CHECKS`] checks of one KiB.
const MAX_BODY: usize = 1024 * 1024;
/// The most checks in one body.
const MAX_CHECKS: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchRequest<'a> {
    #[serde(borrow)]
    checks: Vec<&'a RawValue>,
}

pub(super) async fn batch(State(node): State<Arc<Node>>, request: Request) -> Response {
    let response = match decide(&node, request).await {
        Ok(results) => respond(&results),
        Err(problem) => problem.into_response(),
    };
    counted(&node, "batch", response)
}

async fn decide(node: &Node, request: Request) -> Result<Vec<Result<Decision, Problem>>, Problem> {
    let key_id_allowed = check::admit(&node.shared, &request)?;
    let body = body::read(request.into_body(), MAX_BODY, body::PATIENCE).await?;
    let Object(batch) = serde_json::from_slice::<Object<BatchRequest<'_>>>(&body)
        .map_err(|_| explain::<Object<BatchRequest<'_>>>(&body))?;
    if batch.checks.len() > MAX_CHECKS {
        let detail =
            format!("at most {MAX_CHECKS} checks at once, and these are {}", batch.checks.len());
        return Err(Problem::bad_request("checks", detail));
    }
    let requests: Vec<_> =
        batch.checks.iter().map(|raw| CheckRequest::parse(raw.get().as_bytes())).collect();
    let asks = requests.iter().map(|request| match request {
        Ok(request) => request.ask(key_id_allowed),
        Err(problem) => Err(problem.clone()),
    });
    Ok(node.engine.check_all(asks).await)
}

fn respond(results: &[Result<Decision, Problem>]) -> Response {
    let mut body = Vec::with_capacity(512 * results.len() + 32);
    body.extend_from_slice(br#"{"results":["#);
    for (index, result) in results.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        match result {
            Ok(decision) => answer::write(&mut body, decision, true),
            Err(problem) => problem.write(&mut body),
        }
    }
    body.extend_from_slice(b"]}");
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (content_type, Body::from(body)).into_response()
}

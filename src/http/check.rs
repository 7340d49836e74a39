//! `POST /check`: the decision of one check.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::request::CheckBody;
use super::{WorkerState, count_response, decision_body, headers};
use crate::engine::{Decision, DecisionStatus};
use crate::store::CheckContext;
use crate::transport::{CallerIds, Problem, read_body};

/// The most headers of a response.
const MAX_RESPONSE_HEADERS: usize = 9;
/// The largest request body in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Not an `async fn`, whose future would hold the whole request until the end.
pub(super) fn check(
    State(state): State<Arc<WorkerState>>,
    request: Request,
) -> impl Future<Output = Response> {
    // Boxed, because the futures keep a place for it until their end.
    let authenticated =
        state.shared.access.authenticate(request.headers(), request.extensions()).map_err(Box::new);
    let context = state.engine.request_context("check", || CallerIds::of(request.headers()));
    let body = request.into_body();
    async move {
        let response = respond(&state, authenticated, body, &context).await;
        let response = response.unwrap_or_else(IntoResponse::into_response);
        count_response(&state, "check", response)
    }
}

/// The response, which is smaller to return than the decision.
async fn respond(
    state: &WorkerState,
    authenticated: Result<bool, Box<Problem>>,
    body: Body,
    context: &CheckContext,
) -> Result<Response, Problem> {
    let key_id_allowed = authenticated.map_err(|problem| *problem)?;
    let body = read_body(body, MAX_BODY_BYTES).await?;
    let body = CheckBody::parse(&body)?;
    // Boxed, so that the futures of checks without a reservation stay small.
    if body.is_special() {
        let decision = Box::pin(decide_any(state, &body, key_id_allowed, context)).await?;
        return Ok(decision_response(&decision));
    }
    let (client, request) = body.to_check_request(key_id_allowed)?;
    // Boxed, so that both futures are of sizes that an allocator keeps at hand.
    let decision = Box::pin(state.engine.check(client, &request, context)).await?;
    Ok(decision_response(&decision))
}

/// The decision of a check, with or without a reservation, or of a dry run of it.
pub(super) async fn decide_any(
    state: &WorkerState,
    body: &CheckBody<'_>,
    key_id_allowed: bool,
    context: &CheckContext,
) -> Result<Decision, Problem> {
    let (client, request) = body.to_check_request(key_id_allowed)?;
    let reservation = body.to_reservation()?;
    if body.is_dry_run() {
        let decided = state.engine.dry_run(client, &request, reservation.as_ref(), context);
        return Ok(Box::pin(decided).await?);
    }
    match reservation {
        None => Ok(state.engine.check(client, &request, context).await?),
        Some(reservation) => {
            Ok(state.engine.reserve(client, &request, &reservation, context).await?)
        }
    }
}

/// The response to a check.
pub(super) fn decision_response(decision: &Decision) -> Response {
    let status = decision_body::status_code(decision);
    let mut body = Vec::with_capacity(512);
    decision_body::write_json(&mut body, decision, false);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().reserve(MAX_RESPONSE_HEADERS);
    let content_type = match decision.status {
        DecisionStatus::Allowed | DecisionStatus::Reported => "application/json",
        _ => "application/problem+json",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers::add_rate_limit_headers(response.headers_mut(), decision);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, F>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// The future is allocated and moved for each request, with 256 bytes of the router's. Up to 1,032
    /// bytes, glibc keeps freed blocks for the thread. Rarely awaited futures belong in a box.
    #[test]
    fn the_future_of_a_check_is_small() {
        let size = size_of_future(check);
        assert!(size <= 768, "{size} bytes");
    }
}

//! `POST /check`: one check, decided.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::request::CheckBody;
use super::{NodeState, Peer, Problem, WorkerState, body, count_response, decision_body, headers};
use crate::engine::{Decision, DecisionStatus};

/// The most headers of an answer.
const MAX_RESPONSE_HEADERS: usize = 7;
/// The largest body in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Not an `async fn`: that would carry the whole request along until the end.
pub(super) fn check(
    State(state): State<Arc<WorkerState>>,
    request: Request,
) -> impl Future<Output = Response> {
    let authenticated = authenticate_caller(&state.shared, &request);
    let body = request.into_body();
    async move {
        let response = match decide(&state, authenticated, body).await {
            Ok(decision) => decision_response(&decision),
            Err(problem) => problem.into_response(),
        };
        count_response(&state, "check", response)
    }
}

async fn decide(
    state: &WorkerState,
    authenticated: Result<bool, Problem>,
    body: Body,
) -> Result<Decision, Problem> {
    let key_id_allowed = authenticated?;
    let body = body::read_body(body, MAX_BODY_BYTES, body::BODY_TIMEOUT).await?;
    let body = CheckBody::parse(&body)?;
    let (client, request) = body.to_check_request(key_id_allowed)?;
    Ok(state.engine.check(client, &request).await?)
}

/// Lets a caller in or not, and says whether it may speak for a key by `key_id`.
///
/// # Errors
/// Where the caller's token is missing or wrong.
pub fn authenticate_caller(shared: &NodeState, request: &Request) -> Result<bool, Problem> {
    if let Some(token) = &shared.check_token {
        let sent = bearer_token(request.headers()).or_else(|| tollgate_token(request.headers()));
        return if sent.is_some_and(|sent| token.accepts(sent)) {
            Ok(true)
        } else {
            Err(Problem::unauthorized())
        };
    }
    let peer = request.extensions().get::<Peer>();
    Ok(peer.is_some_and(|&Peer(peer)| shared.trusted_peers.contains(peer)))
}

/// What stands behind `Authorization: Bearer`.
pub(super) fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// The caller's token where `Authorization` belongs to somebody else.
pub(super) fn tollgate_token(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get("x-tollgate-token").map(HeaderValue::as_bytes)
}

/// The answer to a check.
pub(super) fn decision_response(decision: &Decision) -> Response {
    let status = decision_body::status_code(decision);
    let mut body = Vec::with_capacity(512);
    decision_body::write_json(&mut body, decision, false);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().reserve(MAX_RESPONSE_HEADERS);
    let content_type = match decision.status {
        DecisionStatus::Allowed => "application/json",
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

    /// It is allocated and moved for each check: whatever is awaited seldom belongs in a box.
    #[test]
    fn the_future_of_a_check_is_small() {
        let size = size_of_future(check);
        assert!(size <= 1536, "{size} bytes");
    }
}

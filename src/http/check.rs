//! `POST /check`: one check, decided.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::request::CheckRequest;
use super::{Node, Peer, Problem, Shared, answer, body, counted, headers};
use crate::engine::{Decision, Status};

/// The most headers of an answer.
const HEADERS: usize = 7;
/// The largest body in bytes.
const MAX_BODY: usize = 64 * 1024;

/// Not an `async fn`: that would carry the whole request along until the end.
pub(super) fn check(
    State(node): State<Arc<Node>>,
    request: Request,
) -> impl Future<Output = Response> {
    let admitted = admit(&node.shared, &request);
    let body = request.into_body();
    async move {
        let response = match decide(&node, admitted, body).await {
            Ok(decision) => respond(&decision),
            Err(problem) => problem.into_response(),
        };
        counted(&node, "check", response)
    }
}

async fn decide(
    node: &Node,
    admitted: Result<bool, Problem>,
    body: Body,
) -> Result<Decision, Problem> {
    let key_id_allowed = admitted?;
    let body = body::read(body, MAX_BODY, body::PATIENCE).await?;
    let request = CheckRequest::parse(&body)?;
    let (client, ask) = request.ask(key_id_allowed)?;
    Ok(node.engine.check(client, &ask).await?)
}

/// Lets a caller in or not, and says whether it may speak for a key by `key_id`.
///
/// # Errors
/// Where the caller's token is missing or wrong.
pub fn admit(shared: &Shared, request: &Request) -> Result<bool, Problem> {
    if let Some(token) = &shared.check_token {
        let sent = bearer(request.headers()).or_else(|| own_token(request.headers()));
        return if sent.is_some_and(|sent| token.is(sent)) {
            Ok(true)
        } else {
            Err(Problem::no_token())
        };
    }
    let peer = request.extensions().get::<Peer>();
    Ok(peer.is_some_and(|&Peer(peer)| shared.trusted_peers.contain(peer)))
}

/// What stands behind `Authorization: Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// The caller's token where `Authorization` belongs to somebody else.
pub(super) fn own_token(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get("x-tollgate-token").map(HeaderValue::as_bytes)
}

/// The answer to a check.
pub(super) fn respond(decision: &Decision) -> Response {
    let status = answer::status(decision);
    let mut body = Vec::with_capacity(512);
    answer::write(&mut body, decision, false);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().reserve(HEADERS);
    let content_type = match decision.status {
        Status::Allowed => "application/json",
        _ => "application/problem+json",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers::add(response.headers_mut(), decision);
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

//! `/authz`: forward authentication for nginx, Traefik, Caddy and HAProxy.
//!
//! Before it forwards a request, the gateway sends one with the client's headers. Headers that the
//! client could have set itself are not trusted: method and path come from one configured pair of
//! headers, and like the client's address only from trusted peers.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use smallvec::smallvec;

use super::client_address::{X_FORWARDED_FOR, client_address};
use super::request::{MAX_KEY_BYTES, MAX_PATH_BYTES};
use super::values::text_error;
use super::{WorkerState, check, count_response};
use crate::catalog::{CheckRequest, Cost, PolicyKey};
use crate::control::ClientKey;
use crate::engine::Decision;
use crate::transport::{CallerIds, Peer, Problem, bearer_token};

/// The detail of the response to a request whose method needs an API key.
const NO_API_KEY: &str = "there is no API key: send X-API-Key or Authorization: Bearer";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthzQuery {
    api: Option<String>,
    stage: Option<String>,
    policy: Option<String>,
    key: Option<String>,
    key_header: Option<String>,
    deny_status: Option<u16>,
}

pub(super) async fn authz(State(state): State<Arc<WorkerState>>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    let response = match Query::<AuthzQuery>::try_from_uri(&request.uri) {
        Ok(Query(query)) => {
            let only_403 = query.deny_status == Some(403);
            let result = decide(&state, &query, &request).await;
            if let Err(AuthzError::Gateway(problem)) = &result
                && state.shared.gateway_warning.is_due()
            {
                // Gateways do not forward the response, so it is logged.
                let (status, why) = (problem.status().as_u16(), problem.detail());
                tracing::warn!(status, why, "a gateway sends invalid requests to /authz");
            }
            if only_403 { nginx_response(result) } else { authz_response(result) }
        }
        Err(error) => Problem::bad_request("query", error.body_text()).into_response(),
    };
    count_response(&state, "authz", response)
}

/// A request that cannot be judged, by the side at fault; nginx gets another response for each.
enum AuthzError {
    /// The request: its path or API key is invalid.
    Client(Problem),
    /// The gateway's configuration.
    Gateway(Problem),
}

async fn decide(
    state: &WorkerState,
    query: &AuthzQuery,
    request: &Parts,
) -> Result<Decision, AuthzError> {
    let (shared, headers) = (&state.shared, &request.headers);
    let trusted = shared.access.authenticate_gateway(headers, &request.extensions);
    let trusted = trusted.map_err(AuthzError::Gateway)?;
    if query.deny_status.is_some_and(|status| status != 403) {
        return Err(AuthzError::Gateway(Problem::bad_request("deny_status", "may only be 403")));
    }
    let (method, path) = shared.forwarded_headers.names();
    let forwarded = |name| if trusted { single_header(headers, name) } else { Ok(None) };
    let (client, policy_key);
    let mut check_request = CheckRequest {
        api: query.api.as_deref(),
        stage: query.stage.as_deref(),
        method: forwarded(method)?,
        path: forwarded(path)?,
        policies: smallvec![],
        cost: Cost::Requests(1),
        after_the_fact: false,
        model: None,
        usage: None,
    };
    match (&query.policy, &query.key, &query.key_header) {
        (None, None, None) => {
            client = client_key(state, headers, &check_request)?;
        }
        (Some(policy), key, header) => {
            policy_key = match (key.as_deref(), header.as_deref()) {
                (None, Some(header)) => header_key(headers, header)?.into(),
                (Some("ip"), header) => address_key(state, policy, header, request, trusted)?,
                _ => return Err(policy_without_key()),
            };
            check_request.policies.push(PolicyKey { policy, key: &policy_key, index: None });
            client = None;
        }
        _ => return Err(policy_without_key()),
    }
    for (name, text, max_bytes) in
        [(method, check_request.method, MAX_KEY_BYTES), (path, check_request.path, MAX_PATH_BYTES)]
    {
        match text {
            Some(text) => validate_text(name, text, max_bytes)?,
            None if state.engine.catalog().has_method_limits(&check_request) => {
                let why =
                    if trusted { "is missing" } else { "is only trusted from --trusted-peers" };
                return Err(missing_route(name, why));
            }
            None => {}
        }
    }
    let context = state.engine.request_context("authz", || CallerIds::of(headers));
    let decision = state.engine.check(client, &check_request, &context).await;
    decision.map_err(Problem::from).map_err(|problem| match problem.field() {
        None | Some("path" | "method" | "key") => AuthzError::Client(problem),
        Some(_) => AuthzError::Gateway(problem),
    })
}

/// The error that the header with the method or the path cannot be used.
fn missing_route(name: &'static str, why: &str) -> AuthzError {
    let detail =
        format!("{name} {why}, and this stage has limits per method; see --forwarded-headers");
    AuthzError::Gateway(Problem::bad_request(name, detail))
}

fn policy_without_key() -> AuthzError {
    AuthzError::Gateway(Problem::bad_request(
        "key_header",
        "a policy goes together with key_header, the header that holds the key to count by, or with key=ip",
    ))
}

/// The key of a policy that a header holds.
fn header_key<'r>(headers: &'r HeaderMap, header: &str) -> Result<&'r str, AuthzError> {
    let key = single_header(headers, header)?
        .ok_or_else(|| missing_key(format!("the header {header} is missing")))?;
    validate_text("key", key, MAX_KEY_BYTES).map(|()| key)
}

/// The address of the request's client, as the key of a policy that counts addresses.
fn address_key(
    state: &WorkerState,
    policy: &str,
    header: Option<&str>,
    request: &Parts,
    trusted: bool,
) -> Result<Cow<'static, str>, AuthzError> {
    let misconfigured = |why| AuthzError::Gateway(Problem::bad_request("key", why));
    if state.engine.catalog().counts_addresses(policy) == Some(false) {
        return Err(misconfigured("key=ip needs a policy with `key_type: ip`"));
    }
    let Some(&Peer(peer)) = request.extensions.get() else {
        return Err(misconfigured("the connection has no address"));
    };
    if !trusted {
        return Ok(peer.to_string().into());
    }
    let header = header.unwrap_or(X_FORWARDED_FOR);
    let peers = &state.shared.access.trusted_peers;
    let address = client_address(&request.headers, header, peer, peers);
    address
        .map(|address| address.to_string().into())
        .map_err(|why| AuthzError::Client(Problem::bad_request(header.to_ascii_lowercase(), why)))
}

fn missing_key(detail: impl Into<Cow<'static, str>>) -> AuthzError {
    AuthzError::Client(Problem::forbidden(detail))
}

/// The client by its API key. A method that needs none ignores headers that cannot be an API key's:
/// a token for the upstream service may be longer than one, or no UTF-8.
fn client_key<'r>(
    state: &WorkerState,
    headers: &'r HeaderMap,
    request: &CheckRequest<'_>,
) -> Result<Option<ClientKey<'r>>, AuthzError> {
    let key = api_key(state, headers)
        .and_then(|key| key.ok_or_else(|| missing_key(NO_API_KEY)))
        .and_then(|key| validate_text("api_key", key, MAX_KEY_BYTES).map(|()| key));
    match key {
        Err(_) if state.engine.catalog().needs_no_key(request) => Ok(None),
        key => key.map(|key| Some(ClientKey::Secret(key))),
    }
}

/// The text in the place of the request's API key, if there is one: `X-API-Key`, or else `Authorization: Bearer`, which often holds a token
/// for the upstream service beside it. Two different API keys are an error.
fn api_key<'r>(state: &WorkerState, headers: &'r HeaderMap) -> Result<Option<&'r str>, AuthzError> {
    let bearer = || bearer_token(headers).and_then(|token| std::str::from_utf8(token).ok());
    // Gateways send the header empty if their client sent none.
    match single_header(headers, "x-api-key")?.filter(|key| !key.is_empty()) {
        Some(key) => {
            if let Some(token) = bearer().filter(|token| *token != key)
                && state.engine.are_different_keys(token, key)
            {
                let why = "holds another API key than X-API-Key; send one of them";
                return Err(AuthzError::Client(Problem::bad_request("authorization", why)));
            }
            Ok(Some(key))
        }
        None => Ok(single_header(headers, "authorization")?.and_then(|_| bearer())),
    }
}

/// The only value of a header. Of two values, the upstream service might use the other one.
fn single_header<'r>(headers: &'r HeaderMap, name: &str) -> Result<Option<&'r str>, AuthzError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(AuthzError::Client(Problem::bad_request(
            name.to_owned(),
            "is there more than once",
        )));
    }
    let text = std::str::from_utf8(value.as_bytes());
    text.map(Some)
        .map_err(|_| AuthzError::Client(Problem::bad_request(name.to_owned(), "is not UTF-8")))
}

fn validate_text(field: &str, text: &str, max_bytes: usize) -> Result<(), AuthzError> {
    text_error(text, max_bytes)
        .map_or(Ok(()), |why| Err(AuthzError::Client(Problem::bad_request(field.to_owned(), why))))
}

fn authz_response(result: Result<Decision, AuthzError>) -> Response {
    match result {
        Ok(decision) => {
            let mut response = check::decision_response(&decision);
            add_upstream_headers(&mut response, &decision);
            response
        }
        Err(AuthzError::Client(problem) | AuthzError::Gateway(problem)) => problem.into_response(),
    }
}

/// The response for nginx, whose `auth_request` knows 401 and 403 and turns all others into 500: a
/// refusal by a limit is 403, an unknown client is 401. Errors of the configuration and of the
/// store keep their status.
fn nginx_response(result: Result<Decision, AuthzError>) -> Response {
    let mut response = match result {
        Err(AuthzError::Client(problem)) if problem.status().is_client_error() => {
            let is_identity = problem.status() == StatusCode::FORBIDDEN
                || matches!(problem.field(), Some("api_key" | "x-api-key" | "authorization"));
            let status = if is_identity { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
            return problem.with_status(status).into_response();
        }
        result => authz_response(result),
    };
    let status = response.status();
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::UNPROCESSABLE_ENTITY) {
        *response.status_mut() = StatusCode::FORBIDDEN;
        response.headers_mut().insert("x-tollgate-status", status.as_u16().into());
    }
    response
}

/// Adds the ids for the upstream service. Both are ASCII by the catalog's rules.
fn add_upstream_headers(response: &mut Response, decision: &Decision) {
    let id = decision.key.as_ref().map(|key| &*key.id);
    for (name, value) in [("x-tollgate-key-id", id), ("x-tollgate-plan", decision.plan.as_deref())]
    {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
}

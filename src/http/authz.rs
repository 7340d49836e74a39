//! `/authz`: forward-auth for nginx, Traefik, Caddy and HAProxy.
//!
//! The gateway asks with the client's headers before it passes a request on. What the client could
//! have written itself is not believed: method and path come from one configured family of
//! headers, and only from trusted peers.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use smallvec::smallvec;

use super::request::{MAX_KEY, MAX_PATH};
use super::wire::fault;
use super::{Node, Peer, Problem, Shared, check, counted};
use crate::catalog::{Ask, Cost, PolicyKey};
use crate::control::Client;
use crate::engine::Decision;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    api: Option<String>,
    stage: Option<String>,
    policy: Option<String>,
    key_header: Option<String>,
    deny_status: Option<u16>,
}

pub(super) async fn authz(State(node): State<Arc<Node>>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    let response = match Query::<Asked>::try_from_uri(&request.uri) {
        Ok(Query(asked)) => {
            let only_403 = asked.deny_status == Some(403);
            let decided = decide(&node, &asked, &request).await;
            if let Err(Denied::Gateway(problem)) = &decided
                && node.shared.misasked.is_due()
            {
                // Gateways hide the answer from everybody.
                let (status, why) = (problem.status().as_u16(), problem.detail());
                tracing::warn!(status, why, "a gateway asks /authz wrongly");
            }
            if only_403 { for_nginx(decided) } else { answer(decided) }
        }
        Err(error) => Problem::bad_request("query", error.body_text()).into_response(),
    };
    counted(&node, "authz", response)
}

/// Whose fault a request that cannot be judged is: it decides what nginx may be told.
enum Denied {
    /// The client's: its path or key cannot be read.
    Client(Problem),
    /// The gateway's configuration.
    Gateway(Problem),
}

async fn decide(node: &Node, asked: &Asked, request: &Parts) -> Result<Decision, Denied> {
    let (shared, headers) = (&node.shared, &request.headers);
    let trusted = admit(shared, request)?;
    if asked.deny_status.is_some_and(|status| status != 403) {
        return Err(Denied::Gateway(Problem::bad_request("deny_status", "may only be 403")));
    }
    let (method, path) = shared.forwarded_headers.names();
    let forwarded = |name| if trusted { one(headers, name) } else { Ok(None) };
    let (client, subject);
    let mut ask = Ask {
        api: asked.api.as_deref(),
        stage: asked.stage.as_deref(),
        method: forwarded(method)?,
        path: forwarded(path)?,
        policies: smallvec![],
        cost: Cost::Requests(1),
    };
    match (&asked.policy, &asked.key_header) {
        (Some(policy), Some(header)) => {
            subject = one(headers, header)?
                .ok_or_else(|| no_key(format!("the header {header} is missing")))?;
            check_text("key", subject, MAX_KEY)?;
            ask.policies.push(PolicyKey { policy, key: subject, index: None });
            client = None;
        }
        (Some(_), None) | (None, Some(_)) => {
            return Err(Denied::Gateway(Problem::bad_request(
                "key_header",
                "policy and key_header go together: the header holds the key to count by",
            )));
        }
        (None, None) => client = Some(Client::Secret(api_key(headers)?)),
    }
    for (name, text, most) in [(method, ask.method, MAX_KEY), (path, ask.path, MAX_PATH)] {
        match text {
            Some(text) => check_text(name, text, most)?,
            None if node.engine.catalog().has_method_limits(&ask) => {
                let why =
                    if trusted { "is missing" } else { "is believed from --trusted-peers only" };
                let detail = format!(
                    "{name} {why}, and this stage has limits per method; see --forwarded-headers"
                );
                return Err(Denied::Gateway(Problem::bad_request(name, detail)));
            }
            None => {}
        }
    }
    let decision = node.engine.check(client, &ask).await;
    decision.map_err(Problem::from).map_err(|problem| match problem.field() {
        None | Some("path" | "method") => Denied::Client(problem),
        Some(_) => Denied::Gateway(problem),
    })
}

/// Lets a gateway in or not, and says whether its word is taken.
fn admit(shared: &Shared, request: &Parts) -> Result<bool, Denied> {
    if let Some(token) = &shared.check_token {
        let sent = check::own_token(&request.headers);
        let right = sent.is_some_and(|sent| token.is(sent));
        return if right { Ok(true) } else { Err(Denied::Gateway(Problem::no_token())) };
    }
    let peer = request.extensions.get::<Peer>();
    Ok(peer.is_some_and(|&Peer(peer)| shared.trusted_peers.contain(peer)))
}

fn no_key(detail: impl Into<Cow<'static, str>>) -> Denied {
    Denied::Client(Problem::forbidden(detail))
}

/// The client's API key: `X-API-Key`, or else `Authorization: Bearer`.
fn api_key(headers: &HeaderMap) -> Result<&str, Denied> {
    // Gateways send the header empty where their client sent none.
    let key = match one(headers, "x-api-key")?.filter(|key| !key.is_empty()) {
        Some(key) => key,
        None => one(headers, "authorization")?
            .and_then(|_| check::bearer(headers))
            .and_then(|token| std::str::from_utf8(token).ok())
            .ok_or_else(|| {
                no_key("there is no API key: send X-API-Key or Authorization: Bearer")
            })?,
    };
    check_text("api_key", key, MAX_KEY).map(|()| key)
}

/// The only value of a header. Of two, the service behind might believe the other one.
fn one<'r>(headers: &'r HeaderMap, name: &str) -> Result<Option<&'r str>, Denied> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Denied::Client(Problem::bad_request(
            name.to_owned(),
            "is there more than once",
        )));
    }
    let text = std::str::from_utf8(value.as_bytes());
    text.map(Some)
        .map_err(|_| Denied::Client(Problem::bad_request(name.to_owned(), "is not UTF-8")))
}

fn check_text(field: &str, text: &str, most: usize) -> Result<(), Denied> {
    fault(text, most)
        .map_or(Ok(()), |why| Err(Denied::Client(Problem::bad_request(field.to_owned(), why))))
}

fn answer(decided: Result<Decision, Denied>) -> Response {
    match decided {
        Ok(decision) => {
            let mut response = check::respond(&decision);
            tell_upstream(&mut response, &decision);
            response
        }
        Err(Denied::Client(problem) | Denied::Gateway(problem)) => problem.into_response(),
    }
}

/// The same for nginx, whose `auth_request` knows 401 and 403 and turns all else into 500: limits
/// are 403, identity is 401. What the operator has to mend stays as it is, and so does a lost store.
fn for_nginx(decided: Result<Decision, Denied>) -> Response {
    let mut response = match decided {
        Err(Denied::Client(problem)) if problem.status().is_client_error() => {
            let is_identity = problem.status() == StatusCode::FORBIDDEN
                || matches!(problem.field(), Some("api_key" | "x-api-key" | "authorization"));
            let told = if is_identity { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
            return problem.with_status(told).into_response();
        }
        decided => answer(decided),
    };
    let told = response.status();
    if matches!(told, StatusCode::TOO_MANY_REQUESTS | StatusCode::UNPROCESSABLE_ENTITY) {
        *response.status_mut() = StatusCode::FORBIDDEN;
        response.headers_mut().insert("x-tollgate-status", told.as_u16().into());
    }
    response
}

/// Ids for the upstream; both are ASCII by the catalog's rules.
fn tell_upstream(response: &mut Response, decision: &Decision) {
    let id = decision.key.as_ref().map(|key| &*key.id);
    for (name, value) in [("x-tollgate-key-id", id), ("x-tollgate-plan", decision.plan.as_deref())]
    {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
}

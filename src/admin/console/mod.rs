//! The console: a web page on the admin listener, and the sessions in which it is used.
//!
//! The page requests data from the admin API like every other client, by its session. Nothing here
//! reads or changes a resource.

mod assets;
mod session;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CACHE_CONTROL, HOST, ORIGIN, SET_COOKIE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::auth::{Role, forbidden, peer_address};
use super::error::AdminError;
use super::payload::{AdminResult, ok_response, parse_body};
use super::unserved;
use crate::time::{Clock as _, SystemClock};
use session::{COOKIE, LIFETIME_SECS, access_key_secret};
pub(super) use session::{Session, SessionError, Sessions, session_cookie};

/// The header that the console's scripts send. Another origin's script cannot send it: a browser asks
/// first, and the admin API does not allow it.
const SCRIPT_HEADER: HeaderName = HeaderName::from_static("x-tollgate-console");
/// The largest body of a sign-in, in bytes.
const MAX_SIGN_IN_BYTES: usize = 16 * 1024;

/// The routes of the console. They need no credential: the page is the same for everybody.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/console", get(assets::redirect))
        .route("/console/", get(assets::page))
        .route("/console/{*name}", get(assets::file))
        .route("/console/session", get(show).post(sign_in).delete(sign_out))
        .method_not_allowed_fallback(unserved::method)
        .layer(DefaultBodyLimit::max(MAX_SIGN_IN_BYTES))
}

/// The system's time in seconds since 1970.
fn now_secs() -> u64 {
    SystemClock.now().get() / 1_000_000
}

/// Keeps a response out of caches, and its bytes from being read as another type.
pub(super) fn without_storage(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Checks that a request comes from a script of the console, and not from a page of another origin
/// in the same browser. `SameSite` of the cookie already keeps other sites out, but not other ports
/// and subdomains.
pub(super) fn ensure_own_script(headers: &HeaderMap) -> Result<(), AdminError> {
    let text = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    let is_same = match text(HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site == b"same-origin",
        // Browsers send no Sec-Fetch-Site over plain HTTP beyond this machine.
        None => text(ORIGIN).is_none_or(|origin| {
            let scheme_end = origin.windows(3).position(|window| window == b"://");
            let authority = scheme_end.and_then(|at| origin.get(at + 3..));
            authority.is_some() && authority == text(HOST)
        }),
    };
    if headers.contains_key(SCRIPT_HEADER) && is_same {
        return Ok(());
    }
    let why = "a session is for the console of this address only; other clients send a token";
    Err(forbidden("AccessDeniedException", why))
}

/// The body of a sign-in: a token, or an access key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SignIn {
    token: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
}

/// `GET /console/session`: the session, or the kinds of credentials that begin one.
async fn show(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let sessions = admin.authenticator.sessions();
    let session = session_cookie(&headers).and_then(|cookie| sessions.open(cookie).ok());
    let session = session.map_or(Value::Null, |session| render(&session));
    let accepts = if sessions.accept_tokens() { "token" } else { "accessKey" };
    without_storage(ok_response(&json!({ "session": session, "accepts": accepts })))
}

fn render(session: &Session<'_>) -> Value {
    let Session { who, role, ends } = session;
    json!({ "who": who, "canWrite": *role == Role::Write, "ends": ends })
}

/// `POST /console/session`: begins a session.
async fn sign_in(
    State(admin): State<Arc<Admin>>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let signed_in = try_sign_in(&admin, &extensions, &headers, &body);
    without_storage(signed_in.unwrap_or_else(IntoResponse::into_response))
}

fn try_sign_in(
    admin: &Admin,
    extensions: &Extensions,
    headers: &HeaderMap,
    body: &[u8],
) -> AdminResult {
    ensure_own_script(headers)?;
    let secret = match parse_body(body)? {
        SignIn { token: Some(token), access_key_id: None, secret_access_key: None } => token,
        SignIn { token: None, access_key_id: Some(id), secret_access_key: Some(secret) } => {
            access_key_secret(&id, &secret)
        }
        _ => {
            let why = "write token, or accessKeyId and secretAccessKey";
            return Err(AdminError::bad_request(why));
        }
    };
    let peer = peer_address(extensions);
    let begun = admin.authenticator.sessions().begin(secret.as_bytes(), now_secs());
    let Some((session, cookie)) = begun else {
        tracing::info!(%peer, "a sign-in to the console was refused");
        let why = "this is not a credential of this service's admin API";
        let error = AdminError::new(StatusCode::UNAUTHORIZED, "UnauthorizedException", why);
        return Err(admin.authenticator.record_failure(peer, error));
    };
    tracing::info!(who = session.who, %peer, "signed in to the console");
    // The browser says if it reached the page by TLS, of this node or of a proxy before it.
    let is_encrypted =
        headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let secure = if is_encrypted { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE}={cookie}; Path=/; Max-Age={LIFETIME_SECS}; HttpOnly; SameSite=Strict{secure}"
    );
    Ok(([(SET_COOKIE, cookie)], ok_response(&render(&session))).into_response())
}

/// `DELETE /console/session`: removes the cookie from the browser. No node keeps sessions, so a copy
/// of the cookie is valid until its end, or until its credential is taken out of the settings.
async fn sign_out(headers: HeaderMap) -> Response {
    if let Err(error) = ensure_own_script(&headers) {
        return without_storage(error.into_response());
    }
    let cookie = format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    without_storage((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scripts_of_the_own_origin_use_a_session() {
        let cases = [
            ("the console", &[("sec-fetch-site", "same-origin")][..], true),
            (
                "behind a proxy with another host",
                &[("sec-fetch-site", "same-origin"), ("host", "a"), ("origin", "https://b")],
                true,
            ),
            (
                "plain HTTP on a network",
                &[("host", "node:8082"), ("origin", "http://node:8082")],
                true,
            ),
            ("a GET without an origin", &[("host", "node:8082")], true),
            (
                "another port of the host",
                &[("sec-fetch-site", "same-site"), ("host", "a"), ("origin", "http://a")],
                false,
            ),
            ("another site", &[("sec-fetch-site", "cross-site")], false),
            ("an address typed by a person", &[("sec-fetch-site", "none")], false),
            ("another origin", &[("host", "node:8082"), ("origin", "http://node:8080")], false),
            ("an opaque origin", &[("host", "null"), ("origin", "null")], false),
        ];
        for (why, pairs, is_own) in cases {
            let pair = |(name, value): &(&'static str, &str)| {
                (HeaderName::from_static(name), value.parse().unwrap())
            };
            let mut headers: HeaderMap = pairs.iter().map(pair).collect();
            assert!(ensure_own_script(&headers).is_err(), "{why}, without the header");
            headers.insert(SCRIPT_HEADER, HeaderValue::from_static("1"));
            assert_eq!(ensure_own_script(&headers).is_ok(), is_own, "{why}");
        }
    }
}

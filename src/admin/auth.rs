//! Authentication of admin requests: by a bearer token, by a signature, or by a session of the
//! console.
//!
//! The body of a request is read only if its head may be right. Failed requests are counted for
//! each network of clients, and with too many of them the response says no more why one failed. A
//! right credential always passes, so nobody can lock another client out.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use ipnet::IpNet;

use super::Admin;
use super::console::{self, Session, SessionError, Sessions, ensure_own_script, session_cookie};
use super::error::AdminError;
use super::explain;
use super::preview;
use super::signature::{SignatureError, SignedHead};
use crate::algorithm::Throttle;
use crate::control::{ChangeOrigin, Editor, PolicyLedger, UsageLedger};
use crate::limit::{Charge, Charges, Limit, Subject, Unit};
use crate::settings::{AdminCredentials, BearerTokens};
use crate::store::MemoryStore;
use crate::transport::{CallerIds, Peer, X_REQUEST_ID, read_body};

/// The largest request body in bytes: an import may be long.
const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;
/// The longest path in the audit log, in characters; the rest is cut off.
const MAX_PATH_CHARS: usize = 256;

/// The permissions of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Read,
    Write,
}

/// An authenticated client and its request.
#[derive(Clone)]
pub(super) struct Caller {
    origin: ChangeOrigin,
    role: Role,
    is_signed: bool,
}

impl Caller {
    /// True if the request is signed with the access key, as AWS' clients do.
    pub(super) fn is_signed(&self) -> bool {
        self.is_signed
    }

    /// Checks that the request may see the values of API keys, and logs that it does.
    pub(super) fn may_see_values(&self) -> Result<(), AdminError> {
        if !self.sees_values() {
            return Err(forbidden("AccessDeniedException", "this token may not see values"));
        }
        Ok(())
    }

    /// True if the request may see the values of API keys, for which reading is not enough; logs
    /// that it does.
    pub(super) fn sees_values(&self) -> bool {
        let ChangeOrigin { who, path, request_id, .. } = &self.origin;
        let sees = self.role == Role::Write;
        if sees {
            tracing::info!(who, path, request_id, "values of API keys are shown");
        }
        sees
    }
}

/// The editor of a request. Its changes are in the audit log as the request's.
pub(super) struct RequestEditor(pub(super) Editor);

impl FromRequestParts<Arc<Admin>> for RequestEditor {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, AdminError> {
        let caller = parts.extensions.get::<Caller>();
        let caller = caller.ok_or_else(|| {
            forbidden("AccessDeniedException", "the request is not authenticated")
        })?;
        Ok(Self(admin.editors.editor(caller.origin.clone())))
    }
}

/// The usage ledger of a request. Its corrections are in the audit log as the request's.
pub(super) struct RequestLedger(pub(super) Arc<UsageLedger>);

impl FromRequestParts<Arc<Admin>> for RequestLedger {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, AdminError> {
        let RequestEditor(editor) = RequestEditor::from_request_parts(parts, admin).await?;
        Ok(Self(Arc::new(UsageLedger::new(editor, admin.counter_store.clone()))))
    }
}

/// The ledger of policies of a request. Its resets are in the audit log as the request's.
pub(super) struct RequestPolicies(pub(super) PolicyLedger);

impl FromRequestParts<Arc<Admin>> for RequestPolicies {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, AdminError> {
        let RequestEditor(editor) = RequestEditor::from_request_parts(parts, admin).await?;
        Ok(Self(PolicyLedger::new(editor, admin.counter_store.clone())))
    }
}

/// The credential in the head of a request.
enum HeadCredential<'a> {
    /// A token, with its name and role.
    Token(Cow<'a, str>, Role),
    /// A signature, which is right or not depending on the body.
    Signature(SignedHead<'a>),
    /// A session of the console, with the name and role of the credential that began it.
    Session(String, Role),
}

/// Authenticates requests.
pub(super) struct Authenticator {
    credentials: AdminCredentials,
    sessions: Sessions,
    failures: MemoryStore,
    limit: Arc<Limit>,
}

impl Authenticator {
    pub(super) fn new(credentials: AdminCredentials, failures: MemoryStore) -> Self {
        let throttle = "1/s".parse().ok().and_then(|rate| Throttle::new(rate, 10).ok());
        let throttle = throttle.unwrap_or_else(|| unreachable!("a constant"));
        let limit = Arc::new(Limit::new("failures", Unit::requests(), throttle, false));
        let sessions = Sessions::new(&credentials);
        Self { credentials, sessions, failures, limit }
    }

    /// The sessions of the console.
    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Counts a failure, and returns the error of the response: this one, or 429 if the client's
    /// network has failed too often.
    pub(super) fn record_failure(&self, peer: IpAddr, error: AdminError) -> AdminError {
        let subject = Subject::policy("admin/authentication", &client_network(peer));
        let charges: Charges =
            std::iter::once(Charge::new(subject, Arc::clone(&self.limit), 1)).collect();
        if self.failures.judge(&charges).is_ok_and(|judged| judged.verdict.allowed) {
            return error;
        }
        let why = "too many failed authentications from this address; only a right credential is accepted now";
        AdminError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", why)
    }

    /// The session of a request that has one, and no other credential. That an old one has expired is
    /// no failed authentication.
    fn authenticate_session(
        &self,
        request: &Parts,
        peer: IpAddr,
    ) -> Result<Option<HeadCredential<'static>>, AdminError> {
        let cookie = session_cookie(&request.headers);
        let Some(cookie) = cookie.filter(|_| !request.headers.contains_key("authorization")) else {
            return Ok(None);
        };
        ensure_own_script(&request.headers)?;
        match self.sessions.open(cookie) {
            Ok(Session { who, role, .. }) => {
                Ok(Some(HeadCredential::Session(format!("console:{who}"), role)))
            }
            Err(SessionError::Expired) => Err(AdminError::new(
                StatusCode::UNAUTHORIZED,
                "ExpiredTokenException",
                "the session has expired; sign in again",
            )),
            Err(SessionError::Unknown) => {
                let why = "the session is not of this service's credentials; sign in again";
                let error = AdminError::new(StatusCode::UNAUTHORIZED, "UnauthorizedException", why);
                Err(self.record_failure(peer, error))
            }
        }
    }

    /// The credential in the head of a request. All that the head says about it is right.
    fn authenticate_head<'a>(
        &'a self,
        request: &'a Parts,
    ) -> Result<HeadCredential<'a>, AdminError> {
        let Some(header) = request.headers.get("authorization") else {
            let why = "the admin API needs Authorization: Bearer with the token of TOLLGATE_ADMIN_TOKEN, or a request signed with the access key (SigV4)";
            return Err(forbidden("MissingAuthenticationTokenException", why));
        };
        let AdminCredentials { write, read, access_key } = &self.credentials;
        let token = header.as_bytes().split_at_checked(7);
        let Some((_, token)) = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
        else {
            let Some(key) = access_key else {
                let why = "no access key is set here: TOLLGATE_ADMIN_ACCESS_KEY_ID and TOLLGATE_ADMIN_SECRET_ACCESS_KEY";
                return Err(forbidden("UnrecognizedClientException", why));
            };
            let head = SignedHead::check(key, request).map_err(signature_error)?;
            return Ok(HeadCredential::Signature(head));
        };
        let write = token_label(write.as_ref(), "admin_token", token);
        let read = token_label(read.as_ref(), "admin_read_token", token);
        match (write, read) {
            (Some(who), _) => Ok(HeadCredential::Token(who, Role::Write)),
            (_, Some(who)) => Ok(HeadCredential::Token(who, Role::Read)),
            _ => Err(AdminError::new(
                StatusCode::UNAUTHORIZED,
                "UnauthorizedException",
                "the bearer token is not one of this service's",
            )),
        }
    }
}

/// The network whose failures are counted together: an IPv4 address, or the /64 of an IPv6 address,
/// of which a client has all addresses.
fn client_network(peer: IpAddr) -> String {
    let length = if peer.is_ipv4() { 32 } else { 64 };
    IpNet::new_assert(peer, length).trunc().to_string()
}

fn signature_error((kind, why): SignatureError) -> AdminError {
    forbidden(kind, why)
}

/// The address of the other end of a request's connection.
pub(super) fn peer_address(extensions: &Extensions) -> IpAddr {
    extensions.get::<Peer>().map_or(IpAddr::from([0; 4]), |peer| peer.0)
}

/// A token's name in logs: its setting, and its place if that has several.
fn token_label(
    known: Option<&BearerTokens>,
    setting: &'static str,
    sent: &[u8],
) -> Option<Cow<'static, str>> {
    let known = known?;
    let place = known.position(sent)?;
    let several = known.has_several();
    Some(if several { format!("{setting}#{place}").into() } else { setting.into() })
}

pub(super) fn forbidden(kind: &'static str, why: &str) -> AdminError {
    AdminError::new(StatusCode::FORBIDDEN, kind, why)
}

/// Reads and authenticates a request, and sets the request id of the response.
pub(super) async fn authenticate(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Response {
    let id = request_id();
    let caller_id = CallerIds::of(request.headers()).request_id().map(str::to_owned);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (who, response) = match authenticate_request(&admin, request, &id).await {
        Ok((who, request)) => (who, with_aws_error(next.run(request).await)),
        Err(failure) => ("nobody".to_owned(), failure.into_response()),
    };
    // Changes and failed authentications are logged, but not every request of a flood.
    let (status, reading) = (response.status(), matches!(method, Method::GET | Method::HEAD));
    if status != StatusCode::TOO_MANY_REQUESTS && (!reading || who == "nobody") {
        let status = status.as_u16();
        let x_request_id = caller_id.as_deref();
        tracing::info!(who = &*who, %method, path, status, request_id = id, x_request_id, "admin request");
    }
    with_request_id(console::without_storage(response), &id, caller_id.is_some())
}

/// Replaces the framework's own response to an invalid path or query.
fn with_aws_error(response: Response) -> Response {
    if response.status().is_client_error() && !response.headers().contains_key("x-amzn-errortype") {
        let why = "the path or the query is not UTF-8, or lacks a parameter, or has one twice";
        return AdminError::bad_request(why).into_response();
    }
    response
}

/// The authenticated request, and the name of its credential.
async fn authenticate_request(
    admin: &Admin,
    request: Request,
    id: &str,
) -> Result<(String, Request), AdminError> {
    let (mut parts, body) = request.into_parts();
    let peer = peer_address(&parts.extensions);
    let failed = |error| admin.authenticator.record_failure(peer, error);
    let credential = match admin.authenticator.authenticate_session(&parts, peer)? {
        Some(session) => session,
        None => admin.authenticator.authenticate_head(&parts).map_err(failed)?,
    };
    let body = read_body(body, MAX_BODY_BYTES).await?;
    let is_signed = matches!(credential, HeadCredential::Signature(_));
    let (who, role) = match credential {
        HeadCredential::Token(who, role) => (who.into_owned(), role),
        HeadCredential::Session(who, role) => (who, role),
        HeadCredential::Signature(head) => {
            head.verify(&body).map_err(signature_error).map_err(failed)?;
            (head.key_id().to_owned(), Role::Write)
        }
    };
    let path = parts.uri.path();
    let reads = matches!(parts.method, Method::GET | Method::HEAD)
        || path == explain::PATH
        || preview::is_preview(path);
    if role == Role::Read && !reads {
        return Err(forbidden("AccessDeniedException", "this token may only read"));
    }
    let origin = ChangeOrigin {
        who: who.clone(),
        method: parts.method.to_string(),
        path: parts.uri.path().chars().take(MAX_PATH_CHARS).collect(),
        request_id: id.into(),
        status: success_status(&parts.method, parts.uri.path()).as_u16(),
    };
    parts.extensions.insert(Caller { origin, role, is_signed });
    Ok((who, Request::from_parts(parts, Body::from(body))))
}

/// The status of a successful response, as AWS has it for the method and the resource.
fn success_status(method: &Method, path: &str) -> StatusCode {
    let has_no_content = path.starts_with("/tags/")
        || *method == Method::DELETE && path.rsplit('/').nth(1) == Some("methods");
    match *method {
        _ if has_no_content => StatusCode::NO_CONTENT,
        Method::POST | Method::PUT => StatusCode::CREATED,
        Method::DELETE => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    }
}

/// Names the response; its `x-request-id` is the caller's if the request has one.
fn with_request_id(mut response: Response, id: &str, is_named: bool) -> Response {
    if let Ok(id) = HeaderValue::from_str(id) {
        if !is_named {
            response.headers_mut().insert(X_REQUEST_ID, id.clone());
        }
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

/// A random request id: 32 hexadecimal digits, in groups as AWS has them.
fn request_id() -> String {
    let mut random = [0; 16];
    if let Err(error) = getrandom::fill(&mut random) {
        tracing::error!(%error, "the request id is not random");
    }
    let id = u128::from_be_bytes(random);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        id >> 96,
        id >> 80 & 0xffff,
        id >> 64 & 0xffff,
        id >> 48 & 0xffff,
        id & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_address_and_for_ipv6_by_the_64_bits_of_a_network() {
        let network = |address: &str| client_network(address.parse().unwrap());
        assert_ne!(network("203.0.113.7"), network("203.0.113.8"));
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    }
}

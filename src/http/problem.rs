//! Errors as the outside sees them: RFC 9457 problem details.
//!
//! A 4xx says what is wrong and where; what went wrong inside stays in the log.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::catalog::CheckError;

/// A request that cannot be decided.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<Cow<'static, str>>,
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let (kind, status, detail) = ("about:blank", status.as_u16(), detail.into());
        Self { kind, title, status, detail, field: None }
    }

    /// 400: `field` cannot be used as it is.
    #[must_use]
    pub fn bad_request(
        field: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let problem = Self::new(StatusCode::BAD_REQUEST, "Bad request", detail);
        Self { field: Some(field.into()), ..problem }
    }

    /// 401: the caller's token is missing or wrong.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "this service needs the token of --check-token: Authorization: Bearer … on /check, X-Tollgate-Token on /authz",
        )
    }

    /// 403: the client may not.
    #[must_use]
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", detail)
    }

    /// 503: who the client is cannot be found out now.
    #[must_use]
    pub fn key_lookup_failed() -> Self {
        let detail = "the API key cannot be looked up now; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
    }

    /// 503: what the service serves by is still to be read.
    #[must_use]
    pub fn not_ready() -> Self {
        let detail = "what is declared here is not in use yet: Redis has not answered since the start, or it does not fit the catalog file; the service's log says which";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
    }

    /// 404.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        let shown: String = path.chars().take(100).collect();
        let detail = format!(
            "there is nothing at {shown}; try POST /check, POST /check/batch, /authz, GET /metrics, /healthz, /readyz or /openapi.json"
        );
        Self::new(StatusCode::NOT_FOUND, "Not found", detail)
    }

    /// 405.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let detail = "this path is served with another method: POST for /check, GET for /metrics, /healthz and /readyz";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", detail)
    }

    /// 408: the body did not come in time.
    #[must_use]
    pub fn request_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "Request timeout",
            "the request body took too long to arrive",
        )
    }

    /// 413: over `limit` bytes.
    #[must_use]
    pub fn payload_too_large(limit: usize) -> Self {
        let detail = format!("the request body is over {} KiB", limit / 1024);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large", detail)
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What is wrong, and what to do.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Appends the problem as JSON.
    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        let written = serde_json::to_writer(out, self);
        debug_assert!(written.is_ok(), "{written:?}");
    }

    /// Which field is at fault.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The same problem under another status code, for gateways that know few of them.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status: status.as_u16(), ..self }
    }
}

impl From<CheckError> for Problem {
    fn from(refusal: CheckError) -> Self {
        match refusal {
            CheckError::Invalid { field, detail } => Self::bad_request(field, detail),
            CheckError::Forbidden { detail } => Self::forbidden(detail),
            CheckError::LookupUnavailable => Self::key_lookup_failed(),
            CheckError::NotReady => Self::not_ready(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut body = Vec::with_capacity(256);
        self.write_json(&mut body);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // The rest of the body was not read: this connection is of no more use.
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

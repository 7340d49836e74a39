//! Error responses of the check endpoints: RFC 9457 problem details.
//!
//! A 4xx names the fault and the field. Internal errors stay in the log.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The body and the status of an error response.
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
    /// A problem of the type `about:blank`, which is fully described by its status code.
    #[must_use]
    pub fn new(
        status: StatusCode,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (kind, status, detail) = ("about:blank", status.as_u16(), detail.into());
        Self { kind, title, status, detail, field: None }
    }

    /// 400: `field` is invalid.
    #[must_use]
    pub fn bad_request(
        field: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad request", detail).with_field(field)
    }

    /// The same problem, of a field.
    #[must_use]
    pub fn with_field(self, field: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// 401: the request's token is missing or wrong.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "this service needs the token of --check-token: Authorization: Bearer … on /check, X-Tollgate-Token on /authz",
        )
    }

    /// 408: the request body did not arrive in time.
    #[must_use]
    pub fn request_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "Request timeout",
            "the request body took too long to arrive",
        )
    }

    /// 503: the listener holds too many bytes of request bodies that are not whole.
    #[must_use]
    pub fn too_many_bodies() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Service unavailable",
            "too many request bodies are unfinished; try again",
        )
    }

    /// 413: the request body has more than `limit` bytes.
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

    /// The fault and its remedy, as a sentence.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Appends the problem as JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let written = serde_json::to_writer(out, self);
        debug_assert!(written.is_ok(), "{written:?}");
    }

    /// The field that is at fault.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// Returns the same problem with another status code, for gateways that know few of them.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status: status.as_u16(), ..self }
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
            // The rest of the body was not read, so the connection cannot be used again.
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

//! Problems that only the check endpoints report, and the problem for each error of a check.

use std::borrow::Cow;

use axum::http::StatusCode;

use crate::catalog::CheckError;
use crate::transport::Problem;

impl Problem {
    /// 403: the client may not make this request.
    pub(super) fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", detail)
    }

    /// 503: the registry cannot be read for the client's API key.
    pub(super) fn key_lookup_failed() -> Self {
        let detail = "the API key cannot be looked up while the store is down; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
    }

    /// 503: the node has no catalog yet.
    pub(super) fn not_ready() -> Self {
        let detail = "the node has no catalog yet: Redis has not responded since the start, or what the API declares does not fit the catalog file; see the service's log";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
    }

    /// 404: no endpoint has this path.
    pub(super) fn not_found(path: &str) -> Self {
        let shown: String = path.chars().take(100).collect();
        let detail = format!(
            "there is nothing at {shown}; try POST /check, POST /check/batch, /authz, GET /metrics, /healthz, /readyz or /openapi.json"
        );
        Self::new(StatusCode::NOT_FOUND, "Not found", detail)
    }

    /// 405: the endpoint does not support the method.
    pub(super) fn method_not_allowed() -> Self {
        let detail = "this path needs another method: POST for /check, GET for /metrics, /healthz and /readyz";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", detail)
    }
}

impl From<CheckError> for Problem {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Invalid { field, detail } => Self::bad_request(field, detail),
            CheckError::Forbidden { detail } => Self::forbidden(detail),
            CheckError::LookupUnavailable => Self::key_lookup_failed(),
            CheckError::NotReady => Self::not_ready(),
        }
    }
}

//! The trace that a request belongs to, by its `traceparent` header (W3C Trace Context).
//!
//! The value is parsed by the store, which carries it to the call that judges the check.

use axum::http::HeaderMap;

/// The value of the `traceparent` header.
#[must_use]
pub fn traceparent(headers: &HeaderMap) -> Option<&str> {
    headers.get("traceparent")?.to_str().ok()
}

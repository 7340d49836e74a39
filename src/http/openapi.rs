//! `GET /openapi.json`: what a listener serves, for programs.
//!
//! The documents are written by hand, as YAML; tests hold them to the routers.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

/// What the HTTP listener serves.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| yaml_to_json(include_str!("openapi.yaml")));

pub(super) async fn openapi() -> Response {
    document_response(&DOCUMENT)
}

/// A document as JSON, its anchors resolved.
pub(crate) fn yaml_to_json(yaml: &str) -> Bytes {
    let document: serde_json::Value = serde_saphyr::from_str(yaml).unwrap_or_default();
    document.to_string().into()
}

/// The answer that is a document.
pub(crate) fn document_response(document: &Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.clone()).into_response()
}

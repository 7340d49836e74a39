//! OpenAPI documents: written by hand as YAML, served as JSON.
//!
//! Each listener has its own document; tests compare the documents with the routers.

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

/// An OpenAPI document as JSON.
pub struct OpenApiDocument(Bytes);

impl OpenApiDocument {
    /// Converts a YAML document to JSON and resolves its anchors.
    #[must_use]
    pub fn from_yaml(yaml: &str) -> Self {
        let document: serde_json::Value = serde_saphyr::from_str(yaml).unwrap_or_default();
        Self(document.to_string().into())
    }

    /// The response to `GET /openapi.json`.
    pub fn response(&self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0.clone()).into_response()
    }
}

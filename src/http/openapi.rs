//! `GET /openapi.json`: the OpenAPI document of the HTTP listener.

use std::sync::LazyLock;

use axum::response::Response;

use crate::transport::OpenApiDocument;

static DOCUMENT: LazyLock<OpenApiDocument> =
    LazyLock::new(|| OpenApiDocument::from_yaml(include_str!("openapi.yaml")));

pub(super) async fn openapi() -> Response {
    DOCUMENT.response()
}

//! `GET /openapi.json` on the admin listener: AWS' requests by reference, and Tollgate's own in
//! full.

use std::sync::LazyLock;

use axum::response::Response;

use crate::transport::OpenApiDocument;

static DOCUMENT: LazyLock<OpenApiDocument> =
    LazyLock::new(|| OpenApiDocument::from_yaml(include_str!("openapi.yaml")));

pub(super) async fn document() -> Response {
    DOCUMENT.response()
}

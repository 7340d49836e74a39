//! `GET /openapi.json` on the admin listener: AWS' calls by reference, and what Tollgate adds.

use std::sync::LazyLock;

use axum::response::Response;
use bytes::Bytes;

use crate::http::openapi;

static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| openapi::yaml_to_json(include_str!("openapi.yaml")));

pub(super) async fn document() -> Response {
    openapi::document_response(&DOCUMENT)
}

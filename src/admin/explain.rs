//! `POST /explain`: why a check would be admitted or refused now, and where its limits are declared.
//!
//! Nothing changes, so a token that may only read is enough.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;

use super::Admin;
use super::error::AdminError;
use super::payload::{AdminResult, ok_response};
use crate::http;

/// The path, the only one that is read with POST.
pub(super) const PATH: &str = "/explain";

pub(super) async fn explain(State(admin): State<Arc<Admin>>, body: Bytes) -> AdminResult {
    let engine = admin.explainer.get().and_then(std::sync::Weak::upgrade);
    let engine = engine.ok_or_else(|| {
        let why = "the node is starting or stopping; try again";
        AdminError::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", why)
    })?;
    let explained = http::explain(&engine, &body).await.map_err(|problem| {
        let field = problem.field().map_or_else(String::new, |field| format!("{field}: "));
        AdminError::bad_request(format!("Invalid request body: {field}{}", problem.detail()))
    })?;
    Ok(ok_response(&explained))
}

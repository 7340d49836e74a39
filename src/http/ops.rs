//! Endpoints for operation: metrics, liveness, readiness. They are on the listener of checks, and
//! on one of their own if `--listen-ops` is set.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::WorkerState;

/// The router of the listener for operation.
pub fn ops_router(state: Arc<WorkerState>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(|| async { status(StatusCode::NOT_FOUND, "not found") })
        .with_state(state)
}

/// `GET /metrics`: Prometheus' text format.
pub(super) async fn metrics(State(state): State<Arc<WorkerState>>) -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, state.shared.metrics.render())
}

/// `GET /healthz`: the process runs.
pub(super) async fn healthz() -> Response {
    status(StatusCode::OK, "ok")
}

/// `GET /readyz`: 200 if a load balancer should send requests to this node.
///
/// A node stays ready while Redis is unreachable. Otherwise all nodes would leave the load balancer
/// at once, although each still decides by its plans' `on_store_failure`. A node without a catalog
/// is not ready, nor one that has never reached Redis: a wrong address in a new release must not
/// replace the nodes that have.
pub(super) async fn readyz(State(state): State<Arc<WorkerState>>) -> Response {
    match () {
        () if state.shared.draining.is_set() => status(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        () if !state.engine.is_ready() => status(StatusCode::SERVICE_UNAVAILABLE, "starting"),
        () if !state.engine.store().was_reached() => {
            status(StatusCode::SERVICE_UNAVAILABLE, "starting")
        }
        () if state.engine.store().is_degraded() => status(StatusCode::OK, "degraded"),
        () => status(StatusCode::OK, "ok"),
    }
}

fn status(code: StatusCode, word: &str) -> Response {
    let body = format!(r#"{{"status":"{word}"}}"#);
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

//! The HTTP endpoints for checks and operation: one file each.
//!
//! Handlers parse the request, call the engine, and write the response. They decide nothing.

mod decision_body;
mod authz;
mod batch;
mod check;
mod client_address;
mod explain;
mod headers;
#[cfg(feature = "bench")]
mod noop;
mod openapi;
mod ops;
mod problem;
mod request;
mod reservations;
mod values;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};

use crate::engine::Engine;
use crate::settings::ForwardedHeaders;
use crate::telemetry::{LogThrottle, Metrics, WorkerMetrics};
use crate::transport::{CallerAccess, DrainFlag, Problem};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use client_address::client_address;
pub use explain::explain;
pub use ops::ops_router;

/// The state of one worker's handlers.
pub struct WorkerState {
    /// The worker's engine.
    pub engine: Arc<Engine>,
    /// The worker's metrics.
    pub metrics: Arc<WorkerMetrics>,
    /// The state that all workers share.
    pub shared: Arc<NodeState>,
}

/// The state that the handlers of all workers share.
pub struct NodeState {
    /// Authenticates requests.
    pub access: Arc<CallerAccess>,
    /// The headers that carry the original request on `/authz`.
    pub forwarded_headers: ForwardedHeaders,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// Limits the log's warnings about misconfigured gateways.
    pub gateway_warning: LogThrottle,
    /// Set while the node stops.
    pub draining: DrainFlag,
}

/// The router of all endpoints.
pub fn router(state: Arc<WorkerState>) -> Router {
    let unknown =
        |request: Request| async move { Problem::not_found(request.uri().path()).into_response() };
    let router = Router::new()
        .route("/check", post(check::check))
        .route("/check/batch", post(batch::batch))
        .route("/reservations/settle", post(reservations::settle))
        .route("/reservations/cancel", post(reservations::cancel))
        .route("/reservations/extend", post(reservations::extend))
        .route("/authz", any(authz::authz))
        .route("/metrics", get(ops::metrics))
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/openapi.json", get(openapi::openapi))
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed().into_response() })
        .fallback(unknown);
    #[cfg(feature = "bench")]
    let router = router.route("/noop", post(noop::noop));
    router.with_state(state)
}

/// Counts a response in the metrics.
fn count_response(state: &WorkerState, endpoint: &'static str, response: Response) -> Response {
    state.metrics.record_response(endpoint, response.status().as_u16());
    response
}

//! The HTTP outside: one file per endpoint, one for what they share.
//!
//! Handlers parse, ask the engine, and answer. Nothing here decides.

mod decision_body;
mod authz;
mod batch;
mod body;
mod check;
mod headers;
mod listener;
#[cfg(feature = "bench")]
mod noop;
pub(crate) mod openapi;
mod ops;
mod problem;
mod request;
mod server;
mod values;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};

use crate::engine::Engine;
use crate::settings::{BearerTokens, ForwardedHeaders, TrustedPeers};
use crate::telemetry::{LogThrottle, Metrics, WorkerMetrics};
pub use body::{BODY_TIMEOUT, read_body};
pub use check::authenticate_caller;
pub use listener::Listener;
pub use problem::Problem;
pub use server::{ConnectionWorker, HttpServer, Protocol};

/// What the handlers of one worker work with.
pub struct WorkerState {
    /// Decides.
    pub engine: Engine,
    /// What this worker counts.
    pub metrics: Arc<WorkerMetrics>,
    /// What all workers share.
    pub shared: Arc<NodeState>,
}

/// What the handlers of all workers share.
pub struct NodeState {
    /// What callers must send.
    pub check_token: Option<BearerTokens>,
    /// Whose word is taken.
    pub trusted_peers: TrustedPeers,
    /// Which headers carry the original request on `/authz`.
    pub forwarded_headers: ForwardedHeaders,
    /// Metrics of the node.
    pub metrics: Arc<Metrics>,
    /// When it was last logged that a gateway asks wrongly.
    pub gateway_warning: LogThrottle,
    /// Whether the node is on its way out.
    pub draining: AtomicBool,
}

impl NodeState {
    /// Whether the node is on its way out.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// Who sent a request: the other end of its connection.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

/// All endpoints.
pub fn router(state: Arc<WorkerState>) -> Router {
    let unknown =
        |request: Request| async move { Problem::not_found(request.uri().path()).into_response() };
    let router = Router::new()
        .route("/check", post(check::check))
        .route("/check/batch", post(batch::batch))
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

/// Counts an answer on its way out.
fn count_response(state: &WorkerState, endpoint: &'static str, response: Response) -> Response {
    state.metrics.record_response(endpoint, response.status().as_u16());
    response
}

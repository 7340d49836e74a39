//! Envoy's rate limit service, over gRPC and over HTTP.
//!
//! Requests become charges, and decisions become Envoy's messages. The limits are declared in
//! `catalog::envoy`, and checks are decided by `engine`.

mod codec;
mod descriptors;
mod json;
pub mod proto;
mod rate_limit;
mod response;
mod timeout;

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{BoxError, Router};
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Status};
use tonic_health::server::HealthReporter;

use crate::control::LiveDomains;
use crate::engine::Engine;
use crate::failure_policy::FailurePolicy;
use crate::telemetry::{Metrics, WorkerMetrics};
use crate::transport::{BodyError, CallerAccess, DrainFlag};
use proto::rate_limit_service_server::RateLimitServiceServer;

/// The largest message in bytes: room for 10,000 short descriptors.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// The path of the only method. For any other method of the service tonic responds UNIMPLEMENTED.
const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// The rate limit service of one worker.
pub struct EnvoyService {
    /// The worker's engine.
    pub engine: Arc<Engine>,
    /// The worker's metrics.
    pub worker_metrics: Arc<WorkerMetrics>,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// Authenticates requests.
    pub access: Arc<CallerAccess>,
    /// Set while the node stops.
    pub draining: DrainFlag,
    /// The domains with their limits.
    pub domains: Arc<LiveDomains>,
    /// The failure policy of all domains.
    pub on_store_failure: FailurePolicy,
}

/// The state of gRPC's health service, shared by all workers.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    service: tonic_health::pb::health_server::HealthServer<tonic_health::server::HealthService>,
}

impl Default for Health {
    fn default() -> Self {
        let reporter = HealthReporter::new();
        let service = tonic_health::server::HealthService::from_health_reporter(reporter.clone());
        let service = tonic_health::pb::health_server::HealthServer::new(service);
        Self { reporter, service }
    }
}

impl Health {
    /// Sets the serving status of the node, under every name that clients may query.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        for name in ["", "ratelimit", "envoy.service.ratelimit.v3.RateLimitService"] {
            self.reporter.set_service_status(name, status).await;
        }
    }
}

/// The router of the gRPC services.
pub fn router(envoy: Arc<EnvoyService>, health: &Health) -> Router {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    let reflection = reflection.build_v1().unwrap_or_else(|error| unreachable!("{error}"));
    let limits = RateLimitServiceServer::from_arc(Arc::clone(&envoy))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    // By the head: of a request without the token no message is read.
    let limits =
        InterceptedService::new(limits, move |head: Request<()>| match envoy.authenticate(&head) {
            Ok(()) => Ok(head),
            Err(status) => Err(envoy.record_status(status)),
        });
    let mut routes = Routes::builder();
    routes.add_service(health.service.clone()).add_service(reflection);
    // A route with the whole path. tonic's own route is a pattern, which costs each request a map
    // of its parts.
    routes.routes().into_axum_router().route_service(SHOULD_RATE_LIMIT, limits).with_state(())
}

/// The status of a message that broke a limit of its listener.
#[must_use]
pub fn body_status(error: BodyError) -> BoxError {
    let code = match error {
        BodyError::TimedOut => Code::DeadlineExceeded,
        BodyError::TooManyBytes => Code::ResourceExhausted,
    };
    Status::new(code, error.to_string()).into()
}

/// The router of the HTTP endpoints that envoyproxy/ratelimit has.
pub fn http_router(envoy: Arc<EnvoyService>) -> Router {
    Router::new()
        .route("/json", post(json::json))
        .route("/healthcheck", get(json::healthcheck))
        .with_state(envoy)
}

//! `POST /json` and `GET /healthcheck`: the HTTP endpoints of envoyproxy/ratelimit, for existing
//! probes and scripts.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::proto::RateLimitRequest;
use super::proto::rate_limit_response::Code;
use super::{EnvoyService, MAX_MESSAGE_BYTES};
use crate::store::CheckContext;
use crate::transport::{CallerIds, Problem, read_body};

pub(super) async fn json(State(envoy): State<Arc<EnvoyService>>, request: Request) -> Response {
    let context = envoy.engine.request_context("json", || CallerIds::of(request.headers()));
    let response = match read_request(&envoy, request).await {
        Ok(request) => respond(&envoy, &request, &context).await,
        Err(problem) => problem.into_response(),
    };
    envoy.worker_metrics.record_response("json", response.status().as_u16());
    response
}

async fn read_request(envoy: &EnvoyService, request: Request) -> Result<RateLimitRequest, Problem> {
    envoy.access.authenticate(request.headers(), request.extensions())?;
    let body = read_body(request.into_body(), MAX_MESSAGE_BYTES).await?;
    serde_json::from_slice(&body).map_err(|error| {
        let why = format!("is not a RateLimitRequest in JSON: {error}");
        Problem::bad_request("body", why)
    })
}

/// The response: 200 or 429 with the message, and 400 for every error, as in envoyproxy/ratelimit.
async fn respond(
    envoy: &EnvoyService,
    request: &RateLimitRequest,
    context: &CheckContext,
) -> Response {
    match envoy.decide(request, context, Duration::MAX).await {
        Ok(message) => {
            let status = if message.overall_code == i32::from(Code::OverLimit) {
                StatusCode::TOO_MANY_REQUESTS
            } else {
                StatusCode::OK
            };
            let body = serde_json::to_vec(&message).unwrap_or_default();
            (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(status) => Problem::bad_request("body", status.message().to_owned()).into_response(),
    }
}

/// `GET /healthcheck`: 200 `OK`, or 500 while the node drains.
pub(super) async fn healthcheck(State(envoy): State<Arc<EnvoyService>>) -> Response {
    if envoy.draining.is_set() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    "OK".into_response()
}

//! `ShouldRateLimit`: the decision of one request.
//!
//! The response's code is never UNKNOWN. If the store is unreachable and the policy is `closed`,
//! the response is the gRPC status UNAVAILABLE, and Envoy's `failure_mode_deny` decides.

use std::time::Duration;

use tonic::{Request, Response, Status};

use super::proto::rate_limit_service_server::RateLimitService;
use super::proto::{RateLimitRequest, RateLimitResponse};
use super::timeout::grpc_timeout;
use super::{EnvoyService, descriptors, response};
use crate::engine::DescriptorCheck;
use crate::store::CheckContext;
use crate::telemetry::DecisionOutcome;
use crate::transport::CallerIds;

#[tonic::async_trait]
impl RateLimitService for EnvoyService {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let context =
            self.engine.request_context("ShouldRateLimit", || CallerIds::of(metadata.as_ref()));
        match self.decide(&request, &context, grpc_timeout(&metadata)).await {
            Ok(response) => {
                self.worker_metrics.record_response("grpc", 0);
                Ok(Response::new(response))
            }
            Err(status) => Err(self.record_status(status)),
        }
    }
}

impl EnvoyService {
    /// Checks the token in the metadata of a request.
    pub(super) fn authenticate(&self, head: &Request<()>) -> Result<(), Status> {
        if self.access.accepts_bearer(head.metadata().as_ref()) {
            return Ok(());
        }
        let why = "send the metadata `authorization: Bearer …` with the token of --check-token";
        Err(Status::unauthenticated(why))
    }

    /// Counts an error, and returns it.
    pub(super) fn record_status(&self, status: Status) -> Status {
        let code = u16::try_from(i32::from(status.code())).unwrap_or_default();
        self.worker_metrics.record_response("grpc", code);
        status
    }

    /// Decides a request within `client_timeout`.
    pub(super) async fn decide(
        &self,
        request: &RateLimitRequest,
        context: &CheckContext,
        client_timeout: Duration,
    ) -> Result<RateLimitResponse, Status> {
        let domains = self.domains.domains();
        let resolved = descriptors::resolve_request(&domains, request)?;
        let Some(domain) = resolved.domain else {
            self.metrics.unknown_domains.inc();
            return Ok(response::unjudged_response(&resolved, None));
        };
        if resolved.charges.is_empty() {
            return Ok(response::unjudged_response(&resolved, None));
        }
        let engine = &self.engine;
        let check = DescriptorCheck {
            reports: &resolved.reports,
            charges: &resolved.charges,
            context: context.clone(),
            client_timeout,
            on_store_failure: self.on_store_failure,
        };
        match engine.check_descriptors(&check).await {
            Ok(decision) => {
                let refunds = resolved.refund_charges();
                if decision.allowed()
                    && !refunds.is_empty()
                    && let Err(error) = Box::pin(engine.refund(&refunds, client_timeout)).await
                {
                    tracing::warn!(kind = error.kind(), %error, "a refund of hits may have failed");
                }
                Ok(response::judged_response(request, &resolved, &decision, &self.worker_metrics))
            }
            Err(fallback) => {
                let (limit, outcome) = (fallback.limit.as_ref(), fallback.outcome);
                self.worker_metrics.record_decision(domain.label(), limit, outcome, None);
                match outcome {
                    DecisionOutcome::Overloaded if !fallback.decision.allowed() => {
                        Err(Status::unavailable("too many checks wait at this node"))
                    }
                    DecisionOutcome::FailedClosed | DecisionOutcome::FullClosed => {
                        Err(Status::unavailable("the limits cannot be judged at the moment"))
                    }
                    _ => Ok(response::unjudged_response(&resolved, Some(&fallback.decision))),
                }
            }
        }
    }
}

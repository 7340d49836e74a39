//! `ShouldRateLimit`: one request, decided.
//!
//! The answer is never UNKNOWN. Where the store is lost and the policy is `closed`, it is the gRPC
//! status UNAVAILABLE: Envoy's `failure_mode_deny` then decides.

use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use super::proto::rate_limit_service_server::RateLimitService;
use super::proto::{RateLimitRequest, RateLimitResponse};
use super::timeout::patience;
use super::{Envoy, answer, ask};
use crate::telemetry::Outcome;

#[tonic::async_trait]
impl RateLimitService for Envoy {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let decided = match self.admit(&metadata) {
            Ok(()) => self.decide(&request, patience(&metadata)).await,
            Err(status) => Err(status),
        };
        let code = decided.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.node.metrics.answered("grpc", u16::try_from(i32::from(code)).unwrap_or_default());
        decided.map(Response::new)
    }
}

impl Envoy {
    fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let Some(token) = &self.node.shared.check_token else { return Ok(()) };
        let sent = metadata.get("authorization").and_then(|sent| {
            let (scheme, sent) = sent.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(sent)
        });
        if sent.is_some_and(|sent| token.is(sent)) {
            return Ok(());
        }
        let why = "send the metadata `authorization: Bearer …` with the token of --check-token";
        Err(Status::unauthenticated(why))
    }

    /// Decides a request within `patience`.
    pub(super) async fn decide(
        &self,
        request: &RateLimitRequest,
        patience: Duration,
    ) -> Result<RateLimitResponse, Status> {
        let domains = self.domains.domains();
        let asked = ask::read(&domains, request)?;
        let Some(domain) = asked.domain else {
            self.node.shared.metrics.unknown_domains.inc();
            return Ok(answer::unjudged(&asked, None));
        };
        if asked.charges.is_empty() {
            return Ok(answer::unjudged(&asked, None));
        }
        let engine = &self.node.engine;
        match engine.judge(&asked.charges, patience, self.on_store_failure).await {
            Ok(decision) => {
                let refunds = asked.refunds();
                if decision.allowed()
                    && !refunds.is_empty()
                    && let Err(error) = Box::pin(engine.give_back(&refunds, patience)).await
                {
                    tracing::warn!(kind = error.kind(), %error, "hits were perhaps not given back");
                }
                Ok(answer::judged(request, &asked, &decision, &self.node.metrics))
            }
            Err(fallen) => {
                let (limit, outcome) = (fallen.limit.as_ref(), fallen.outcome);
                self.node.metrics.decided(domain.label(), limit, outcome);
                match outcome {
                    Outcome::FailedClosed => {
                        Err(Status::unavailable("the limits cannot be judged at the moment"))
                    }
                    _ => Ok(answer::unjudged(&asked, Some(&fallen.decision))),
                }
            }
        }
    }
}

//! Checks whose charges do not come from the catalog, but from Envoy's descriptors. They use the
//! same store, denial memo and fallback.
//!
//! The meaning of the charges and the metrics of their outcomes are `grpc`'s.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::conclude::Origin;
use super::{Decision, Engine, FallbackDecision};
use crate::algorithm::{ChargeTime, CounterState};
use crate::failure_policy::FailurePolicy;
use crate::limit::{Charge, Charges, Refund};
use crate::store::{CheckContext, StoreError, StoreVerdict};

/// A check whose charges come from Envoy's descriptors.
pub struct DescriptorCheck<'c> {
    /// Reports to charge before; empty if they are among the charges.
    pub reports: &'c Charges,
    /// The charges, of which each counter has one.
    pub charges: &'c Charges,
    /// The trace of the request.
    pub context: CheckContext,
    /// The time that the client waits; the engine's own deadline applies as well.
    pub client_timeout: Duration,
    /// The decision while the store is unreachable.
    pub on_store_failure: FailurePolicy,
}

impl Engine {
    /// Decides a check of Envoy's descriptors. The charges are judged as one, after the reports: a
    /// counter that these leave in debt refuses them.
    ///
    /// # Errors
    /// If the store is unreachable: the decision of the fallback.
    pub async fn check_descriptors(
        &self,
        check: &DescriptorCheck<'_>,
    ) -> Result<Decision, FallbackDecision> {
        let (started, charges) = (Instant::now(), check.charges);
        // A cached refusal says nothing about the other limits of a check.
        let is_alone = charges.len() == 1 && check.reports.is_empty();
        let memo = self.memo.as_ref().filter(|_| is_alone);
        if let Some(decision) = memo.and_then(|memo| memo.lookup(charges)) {
            self.observe_limits(
                Origin::of_descriptors(&check.context),
                charges,
                None,
                &decision,
                None,
            );
            return Ok(decision);
        }
        let in_flight = self.parts.metrics.start_checks(1);
        // The store's deadline is not shortened: the checks of other requests share the call.
        let judged = self.judge_descriptors(check, started + self.parts.deadline);
        let judged = if check.client_timeout < self.parts.deadline {
            timeout(check.client_timeout, judged).await.unwrap_or(Err(StoreError::Timeout))
        } else {
            judged.await
        };
        drop(in_flight);
        let result = match judged {
            Ok(verdict) => {
                let decision = self.decide_by_verdict(charges, &verdict);
                let origin = Origin::of_descriptors(&check.context);
                self.observe_limits(origin, charges, Some(&verdict), &decision, None);
                Ok(decision)
            }
            Err(StoreError::NewSubject(subject)) => {
                let deadline = started + self.parts.deadline;
                Err(Box::pin(self.check_known_descriptors(check, *subject, deadline)).await)
            }
            Err(error) => Err(self.fall_back(check, &error)),
        };
        self.parts.metrics.record_duration(started.elapsed());
        result
    }

    async fn judge_descriptors(
        &self,
        check: &DescriptorCheck<'_>,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        let (store, context, reports) = (&self.parts.store, &check.context, check.reports);
        if !reports.is_empty() {
            // Boxed, so that the futures of requests without it stay small.
            let verdict = Box::pin(store.judge(reports, context, deadline)).await?;
            let decision = self.decide_by_verdict(reports, &verdict);
            let origin = Origin::of_descriptors(context);
            self.observe_limits(origin, reports, Some(&verdict), &decision, None);
        }
        store.judge(check.charges, context, deadline).await
    }

    pub(super) fn fall_back(
        &self,
        check: &DescriptorCheck<'_>,
        error: &StoreError,
    ) -> FallbackDecision {
        let policy = check.on_store_failure;
        if !check.reports.is_empty() {
            // Under `local` the node's shares are charged before they judge the rest.
            let _reported = self.decide_by_fallback(check.reports, policy, error);
        }
        let fallback = self.decide_by_fallback(check.charges, policy, error);
        self.observe_fallback(Origin::of_descriptors(&check.context), check.charges, &fallback);
        fallback
    }

    /// Refunds the charges as if they had been made just now. A refund that may have failed is not
    /// retried.
    ///
    /// # Errors
    /// If the store is unreachable.
    pub async fn refund(
        &self,
        charges: &Charges,
        client_timeout: Duration,
    ) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.parts.deadline.min(client_timeout);
        // Only the store knows its clock and the current windows.
        let peeks = charges.iter().map(|charge| Charge { cost: 0, ..charge.clone() }).collect();
        let verdict = self.parts.store.judge(&peeks, &CheckContext::NONE, deadline).await?.verdict;
        let refund = |(charge, state): (&Charge, &CounterState)| Refund {
            charge: charge.clone(),
            charged: ChargeTime { at: verdict.now, window: state.window },
        };
        let refunds = charges.iter().zip(&verdict.states).map(refund).collect();
        self.parts.store.refund(refunds, deadline).await
    }
}

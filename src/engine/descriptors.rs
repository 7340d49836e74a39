//! Checks whose charges do not come from the catalog, but from Envoy's descriptors. They use the
//! same store, denial memo and fallback.
//!
//! The meaning of the charges and the metrics of their outcomes are `grpc`'s.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Decision, Engine, FallbackDecision};
use crate::algorithm::{ChargeTime, CounterState};
use crate::failure_policy::FailurePolicy;
use crate::limit::{Charge, Charges, Refund};
use crate::store::{CheckContext, StoreError};

impl Engine {
    /// Judges charges within `client_timeout` and the engine's own deadline.
    ///
    /// # Errors
    /// If the store is unreachable: the decision of the fallback.
    pub async fn check_charges(
        &self,
        charges: &Charges,
        context: &CheckContext,
        client_timeout: Duration,
        policy: FailurePolicy,
    ) -> Result<Decision, FallbackDecision> {
        let started = Instant::now();
        // An entry of the memo says nothing about the other limits of a check.
        let memo = self.memo.as_ref().filter(|_| charges.len() == 1);
        if let Some(decision) = memo.and_then(|memo| memo.lookup(charges)) {
            self.observe_limits(*context, None, charges, None, &decision);
            return Ok(decision);
        }
        let in_flight = self.parts.metrics.start_checks(1);
        // The store's deadline is not shortened: the checks of other requests share the call.
        let judged = self.parts.store.judge(charges, context, started + self.parts.deadline);
        let judged = if client_timeout < self.parts.deadline {
            timeout(client_timeout, judged).await.unwrap_or(Err(StoreError::Timeout))
        } else {
            judged.await
        };
        drop(in_flight);
        let result = match judged {
            Ok(verdict) => {
                let decision = self.decide_by_verdict(charges, &verdict);
                self.observe_limits(*context, None, charges, Some(&verdict), &decision);
                Ok(decision)
            }
            Err(error) => {
                let fallback = self.decide_by_fallback(charges, policy, &error);
                self.observe_fallback(*context, None, charges, &fallback);
                Err(fallback)
            }
        };
        self.parts.metrics.record_duration(started.elapsed());
        result
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

//! Charges that another configuration than the catalog declares: judged by the same store, memo and
//! fallback.
//!
//! What they mean, and counting their outcomes, is for whoever asks.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Decision, Engine, FallbackDecision};
use crate::algorithm::{ChargeTime, CounterState};
use crate::failure_policy::OnStoreFailure;
use crate::limit::{Charge, Charges, Refund};
use crate::store::{CheckContext, StoreError};

impl Engine {
    /// Judges charges that another configuration than the catalog declares, for a caller with so much
    /// patience; counting them is left to whoever asks.
    ///
    /// # Errors
    /// Where the store is lost: what then is decided in its place.
    pub async fn check_charges(
        &self,
        charges: &Charges,
        context: &CheckContext,
        client_timeout: Duration,
        policy: OnStoreFailure,
    ) -> Result<Decision, FallbackDecision> {
        let started = Instant::now();
        // The memo knows what refuses, and nothing of the limits beside it.
        let memo = self.memo.as_ref().filter(|_| charges.len() == 1);
        if let Some(decision) = memo.and_then(|memo| memo.lookup(charges)) {
            self.observe_limits(*context, None, charges, None, &decision);
            return Ok(decision);
        }
        let in_flight = self.parts.metrics.start_checks(1);
        // The store's deadline stays its own: those who share a call are not made to hurry.
        let answer = self.parts.store.judge(charges, context, started + self.parts.deadline);
        let answer = if client_timeout < self.parts.deadline {
            timeout(client_timeout, answer).await.unwrap_or(Err(StoreError::Timeout))
        } else {
            answer.await
        };
        drop(in_flight);
        let result = match answer {
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

    /// Gives back so much of each counter, as if it had been charged just now; what the store
    /// perhaps did not do is not tried again.
    ///
    /// # Errors
    /// Where the store is lost.
    pub async fn refund(
        &self,
        charges: &Charges,
        client_timeout: Duration,
    ) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.parts.deadline.min(client_timeout);
        // Which windows count, and by which clock, only the store can tell.
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

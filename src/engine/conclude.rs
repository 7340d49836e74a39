//! The end of a check: the decision that follows from the store's verdict or from the fallback, and
//! the observers who see it.

use std::sync::Arc;

use super::decision::{DecidedBy, Decision, DecisionStatus, place_of};
use super::fallback::{Fallback, FallbackDecision};
use super::observer::DecidedCheck;
use super::{Engine, PlanContext};
use crate::catalog::{CheckRequest, RequestView};
use crate::failure_policy::FailurePolicy;
use crate::limit::{Charges, NewReservation};
use crate::store::{CheckContext, StoreError, StoreVerdict};
use crate::telemetry::DecisionOutcome;

/// The origin of a check, as observers of its decision see it.
#[derive(Clone, Copy)]
pub(super) struct Origin<'c> {
    context: &'c CheckContext,
    label: Option<&'c Arc<str>>,
    request: Option<RequestView<'c>>,
}

impl<'c> Origin<'c> {
    pub(super) fn new(
        context: &'c CheckContext,
        label: Option<&'c Arc<str>>,
        request: &'c CheckRequest<'_>,
    ) -> Self {
        Self { context, label, request: Some(request.view()) }
    }

    /// The origin of a check of Envoy's descriptors.
    pub(super) fn of_descriptors(context: &'c CheckContext) -> Self {
        Self { context, label: None, request: None }
    }
}

impl PlanContext<'_, '_> {
    pub(super) fn origin<'c>(&'c self, context: &'c CheckContext) -> Origin<'c> {
        Origin::new(context, self.label.as_ref(), self.request)
    }
}

impl Engine {
    pub(super) fn conclude(
        &self,
        plan: PlanContext<'_, '_>,
        charges: &Charges,
        context: &CheckContext,
        judged: &Result<StoreVerdict, StoreError>,
    ) -> Decision {
        let verdict = match judged {
            Ok(verdict) => verdict,
            Err(error) => return self.conclude_by_fallback(plan, charges, context, error),
        };
        let mut decision = self.decide_by_verdict(charges, verdict);
        if plan.is_report {
            decision.status = DecisionStatus::Reported;
        }
        let origin = Origin::new(context, plan.label.as_ref(), plan.request);
        decision.set_key_and_plan(plan.key, plan.name);
        self.observe_limits(origin, charges, Some(verdict), &decision, None);
        decision
    }

    /// The decision that follows from a verdict of the store.
    pub(super) fn decide_by_verdict(&self, charges: &Charges, judged: &StoreVerdict) -> Decision {
        let by = match judged.leased {
            true if judged.verdict.allowed => DecidedBy::Lease,
            true => DecidedBy::Memo,
            false => place_of(&self.parts.store),
        };
        // Made where it is returned: a local that may change first is copied then.
        let decide = || Decision::from_verdict(charges, &judged.verdict, by);
        let Some(memo) = self.memo.as_ref().filter(|_| !judged.verdict.allowed) else {
            return decide();
        };
        // This node refuses the same request until the pause ends, whatever has drained by then.
        let mut decision = decide();
        decision.wait_for(charges, |charge| memo.pause_after_refusal(charge));
        decision
    }

    pub(super) fn conclude_by_fallback(
        &self,
        plan: PlanContext<'_, '_>,
        charges: &Charges,
        context: &CheckContext,
        error: &StoreError,
    ) -> Decision {
        let fallback = self.decide_by_fallback(charges, plan.on_store_failure, error);
        self.conclude_with(fallback, plan, charges, context)
    }

    pub(super) fn conclude_with(
        &self,
        mut fallback: FallbackDecision,
        plan: PlanContext<'_, '_>,
        charges: &Charges,
        context: &CheckContext,
    ) -> Decision {
        if plan.is_report {
            fallback = fallback.into_report();
        }
        let origin = Origin::new(context, plan.label.as_ref(), plan.request);
        fallback.decision.set_key_and_plan(plan.key, plan.name);
        self.observe_fallback(origin, charges, &fallback);
        fallback.decision
    }

    pub(super) fn decide_by_fallback(
        &self,
        charges: &Charges,
        policy: FailurePolicy,
        error: &StoreError,
    ) -> FallbackDecision {
        tracing::debug!(kind = error.kind(), %error, "a check is decided without the store");
        match error {
            StoreError::Overloaded => Fallback::decide_overloaded(charges),
            StoreError::NewSubject(_) => self.parts.fallback.decide_full(charges, policy),
            _ => self.parts.fallback.decide(charges, policy),
        }
    }

    /// Notifies the observers of a decision that follows from the limits' status.
    pub(super) fn observe_limits(
        &self,
        origin: Origin<'_>,
        charges: &Charges,
        verdict: Option<&StoreVerdict>,
        decision: &Decision,
        reservation: Option<&NewReservation>,
    ) {
        let refusing = decision.violated_limit().map(|limit| limit.label());
        let outcome = match refusing {
            _ if decision.status == DecisionStatus::Reported => DecisionOutcome::Reported,
            None => DecisionOutcome::Allowed,
            Some(_) => DecisionOutcome::Refused,
        };
        let Origin { context, label, request } = origin;
        self.notify_observers(&DecidedCheck {
            context,
            charges,
            verdict,
            decision,
            outcome,
            label,
            refusing,
            request,
            reservation,
        });
    }

    pub(super) fn observe_fallback(
        &self,
        origin: Origin<'_>,
        charges: &Charges,
        fallback: &FallbackDecision,
    ) {
        let Origin { context, label, request } = origin;
        let FallbackDecision { decision, limit, outcome } = fallback;
        self.notify_observers(&DecidedCheck {
            context,
            charges,
            verdict: None,
            decision,
            outcome: *outcome,
            label,
            refusing: limit.as_ref(),
            request,
            reservation: None,
        });
    }

    pub(super) fn notify_observers(&self, check: &DecidedCheck<'_>) {
        for observer in &self.parts.observers {
            observer.on_decision(check);
        }
    }
}

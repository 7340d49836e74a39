//! Checks with a subject that is new to a store which is nearly full.
//!
//! The failure policy decides about the limits of that subject only. All others are judged and
//! charged as ever: otherwise a client that makes up keys would lift them.

use std::sync::Arc;

use tokio::time::Instant;

use super::conclude::Origin;
use super::decision::{DecidedBy, Decision, DecisionStatus};
use super::descriptors::DescriptorCheck;
use super::fallback::FallbackDecision;
use super::{Engine, PlanContext, Prepared};
use crate::failure_policy::FailurePolicy;
use crate::limit::{Charge, Charges, Subject};
use crate::store::{CheckContext, StoreError};
use crate::telemetry::DecisionOutcome;

impl Engine {
    /// A check without the charges of a subject that the store has refused as new, or the decision
    /// that the failure policy makes because of it. A report is charged to all other subjects.
    pub(super) fn leave_out<'r, 'q>(
        &self,
        subject: Subject,
        plan: PlanContext<'r, 'q>,
        charges: &Charges,
        context: &CheckContext,
    ) -> Prepared<'r, 'q> {
        self.parts.metrics.record_full_store();
        match without_new(subject, &plan, charges) {
            Ok(rest) => Prepared::Judge(plan, rest),
            Err(policy) => {
                let fallback = self.parts.fallback.decide_full(charges, policy);
                Prepared::Decided(self.conclude_with(fallback, plan, charges, context))
            }
        }
    }

    /// The decision about what [`Engine::leave_out`] has left of a check of a batch.
    pub(super) async fn judge_rest(
        &self,
        mut prepared: Prepared<'_, '_>,
        context: &CheckContext,
        deadline: Instant,
    ) -> Decision {
        loop {
            let (plan, charges) = match prepared {
                Prepared::Judge(plan, charges) => (plan, charges),
                Prepared::Decided(decision) => return decision,
            };
            let judged = self.parts.store.judge(&charges, context, deadline).await;
            if let Err(StoreError::NewSubject(subject)) = judged {
                prepared = self.leave_out(*subject, plan, &charges, context);
                continue;
            }
            let is_judged = judged.is_ok();
            let mut decision = self.conclude(plan, &charges, context, &judged);
            if is_judged {
                decision.decided_by = DecidedBy::FullStore;
            }
            return decision;
        }
    }

    /// The decision about a check of Envoy's descriptors, of which one has a new subject. Under
    /// `open` the store judges the others.
    pub(super) async fn check_known_descriptors(
        &self,
        check: &DescriptorCheck<'_>,
        mut subject: Subject,
        deadline: Instant,
    ) -> FallbackDecision {
        let mut known = check.charges.clone();
        loop {
            self.parts.metrics.record_full_store();
            known.retain(|charge| charge.subject != subject);
            if check.on_store_failure != FailurePolicy::Open || known.is_empty() {
                return self.fall_back(check, &StoreError::NewSubject(subject.into()));
            }
            match self.parts.store.judge(&known, &check.context, deadline).await {
                Err(StoreError::NewSubject(next)) => subject = *next,
                Err(error) => return self.fall_back(check, &error),
                Ok(verdict) => {
                    let decision = self.decide_by_verdict(&known, &verdict);
                    let origin = Origin::of_descriptors(&check.context);
                    self.observe_limits(origin, &known, Some(&verdict), &decision, None);
                    return known_decision(&decision);
                }
            }
        }
    }
}

/// The charges of all subjects but a new one. The error is the policy that decides about the check
/// instead.
pub(super) fn without_new(
    subject: Subject,
    plan: &PlanContext<'_, '_>,
    charges: &Charges,
) -> Result<Charges, FailurePolicy> {
    let is_new = |charge: &Charge| charge.subject == subject;
    let is_enforced = charges.iter().any(|charge| is_new(charge) && !charge.limit.shadow());
    let policy = match plan.on_store_failure {
        policy if is_enforced && !plan.is_report => policy,
        _ => FailurePolicy::Open,
    };
    if policy == FailurePolicy::Open && !charges.iter().all(is_new) {
        return Ok(charges.iter().filter(|charge| !is_new(charge)).cloned().collect());
    }
    Err(policy)
}

/// The decision about a check of Envoy's that follows from the limits of its known subjects.
fn known_decision(known: &Decision) -> FallbackDecision {
    let limit = known.violated_limit().map(|limit| Arc::clone(limit.label()));
    let (status, outcome) = match limit {
        None => (DecisionStatus::Allowed, DecisionOutcome::FullOpen),
        Some(_) => (DecisionStatus::Refused, DecisionOutcome::Refused),
    };
    let decision = Decision::without_limits(status, known.violated.clone(), known.retry_after);
    let decision = Decision { decided_by: DecidedBy::FullStore, ..decision };
    FallbackDecision { decision, limit, outcome }
}

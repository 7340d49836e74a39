//! The fallback: decisions while the store is unreachable, by the plan's failure policy.
//!
//! Under `local` each node enforces its own share of each limit. Its token buckets live as long as
//! the process, so that a store that fails repeatedly does not grant new budgets. The store detects
//! its failures itself, by timeouts and circuit breakers.

use std::sync::Arc;

use super::decision::{Decision, DecisionStatus};
use crate::failure_policy::FailurePolicy;
use crate::limit::{Charge, Charges, Limit};
use crate::store::{MemoryStore, Redis};
use crate::telemetry::DecisionOutcome;

/// Decides checks that the store did not judge.
pub struct Fallback {
    shares: MemoryStore,
    redis: Option<Arc<Redis>>,
}

/// A decision, the metrics label of the limit that refused, and the outcome for metrics.
pub struct FallbackDecision {
    /// The decision, without the status of any limit.
    pub decision: Decision,
    /// The metrics label of the limit that refused.
    pub limit: Option<Arc<str>>,
    /// The outcome for metrics.
    pub outcome: DecisionOutcome,
}

impl Fallback {
    /// A fallback that keeps the token buckets of shares in `shares`. `redis` counts the nodes that
    /// share the limits.
    #[must_use]
    pub fn new(shares: MemoryStore, redis: Option<Arc<Redis>>) -> Self {
        Self { shares, redis }
    }

    /// Decides by `policy`. A check without enforced limits is never refused.
    pub(super) fn decide(&self, charges: &Charges, policy: FailurePolicy) -> FallbackDecision {
        let enforced = charges.iter().any(|charge| !charge.limit.shadow());
        match policy {
            FailurePolicy::Closed if enforced => {
                fallback_decision(DecisionStatus::Unavailable, DecisionOutcome::FailedClosed)
            }
            FailurePolicy::Local if enforced => self.decide_locally(charges),
            _ => fallback_decision(DecisionStatus::Allowed, DecisionOutcome::FailedOpen),
        }
    }

    fn decide_locally(&self, charges: &Charges) -> FallbackDecision {
        let nodes = self.redis.as_ref().map_or(1, |redis| redis.live_nodes());
        let to_share = |charge: &Charge| {
            let limit = Arc::new(charge.limit.per_node_share(nodes));
            Charge { limit, ..*charge }
        };
        // Meters do not count decisions of the fallback.
        let charges = || charges.iter().filter(|charge| !charge.limit.is_meter());
        let shares: Charges = charges().map(to_share).collect();
        // A cost that fits the whole limit but not the node's share.
        let exceeds_share = |(share, whole): &(&Charge, &Charge)| {
            share.exceeds_capacity()
                && !whole.exceeds_capacity()
                && whole.limit.refuses_alone()
                && !whole.is_forced()
        };
        if let Some((charge, _)) = shares.iter().zip(charges()).find(exceeds_share) {
            let closed =
                fallback_decision(DecisionStatus::Unavailable, DecisionOutcome::FailedClosed);
            return closed.with_violated_limit(&charge.limit);
        }
        let judged = self.shares.judge(&shares);
        let local = Decision::from_verdict(&shares, &judged.verdict, super::DecidedBy::Fallback);
        let Some(limit) = local.violated_limit() else {
            return fallback_decision(DecisionStatus::Allowed, DecisionOutcome::LocalAllowed);
        };
        let decision = Decision::without_limits(
            DecisionStatus::Refused,
            local.violated.clone(),
            local.retry_after,
        );
        FallbackDecision {
            decision,
            limit: Some(Arc::clone(limit.label())),
            outcome: DecisionOutcome::LocalRefused,
        }
    }
}

fn fallback_decision(status: DecisionStatus, outcome: DecisionOutcome) -> FallbackDecision {
    let decision = Decision::without_limits(status, None, crate::time::Micros::ZERO);
    FallbackDecision { decision, limit: None, outcome }
}

impl FallbackDecision {
    /// The decision of a report. Only a node's own share has charged it. Elsewhere it is an error,
    /// also under `open`, so that the caller may send it again.
    pub(super) fn into_report(mut self) -> Self {
        let (status, outcome) = match self.outcome {
            DecisionOutcome::LocalAllowed | DecisionOutcome::LocalRefused => {
                (DecisionStatus::Reported, DecisionOutcome::Reported)
            }
            _ => (DecisionStatus::Unreported, DecisionOutcome::FailedClosed),
        };
        (self.decision.status, self.outcome) = (status, outcome);
        self
    }

    fn with_violated_limit(mut self, limit: &Limit) -> Self {
        self.decision.violated = Some(Arc::clone(limit.name()));
        self.limit = Some(Arc::clone(limit.label()));
        self
    }
}

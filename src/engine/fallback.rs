//! A lost store is a decision: open, closed, or the node's own share of each limit.
//!
//! Its buckets live as long as the process, so a store that comes and goes opens no budget anew.
//! Whether the store is lost is for the store to say.

use std::sync::Arc;

use super::decision::{Decision, DecisionStatus};
use crate::failure_policy::OnStoreFailure;
use crate::limit::{Charge, Charges, Limit};
use crate::store::{MemoryStore, Redis};
use crate::telemetry::DecisionOutcome;

/// What decides where the store does not.
pub struct Fallback {
    shares: MemoryStore,
    redis: Option<Arc<Redis>>,
}

/// A decision, the metrics label of the limit that refused, and the outcome to count.
pub struct FallbackDecision {
    /// The decision, without any limit's standing.
    pub decision: Decision,
    /// The limit that refused.
    pub limit: Option<Arc<str>>,
    /// What to count.
    pub outcome: DecisionOutcome,
}

impl Fallback {
    /// Shares are kept in `shares`, and `redis` knows how many nodes there are to share with.
    #[must_use]
    pub fn new(shares: MemoryStore, redis: Option<Arc<Redis>>) -> Self {
        Self { shares, redis }
    }

    /// Decides by `policy`; where nothing is enforced, nothing is refused.
    pub(super) fn decide(&self, charges: &Charges, policy: OnStoreFailure) -> FallbackDecision {
        let enforced = charges.iter().any(|charge| !charge.limit.shadow());
        match policy {
            OnStoreFailure::Closed if enforced => {
                fallback_decision(DecisionStatus::Unavailable, DecisionOutcome::FailedClosed)
            }
            OnStoreFailure::Local if enforced => self.decide_locally(charges),
            _ => fallback_decision(DecisionStatus::Allowed, DecisionOutcome::FailedOpen),
        }
    }

    fn decide_locally(&self, charges: &Charges) -> FallbackDecision {
        let nodes = self.redis.as_ref().map_or(1, |redis| redis.live_nodes());
        let to_share = |charge: &Charge| {
            let limit = Arc::new(charge.limit.per_node_share(nodes));
            Charge { limit, ..*charge }
        };
        // What is decided here is no usage: it was not decided in the store.
        let charges = || charges.iter().filter(|charge| !charge.limit.is_meter());
        let shares: Charges = charges().map(to_share).collect();
        // What fits into the whole limit, but not into a share.
        let exceeds_share = |(share, whole): &(&Charge, &Charge)| {
            share.exceeds_capacity() && !whole.exceeds_capacity() && whole.limit.refuses_alone()
        };
        if let Some((charge, _)) = shares.iter().zip(charges()).find(exceeds_share) {
            let closed =
                fallback_decision(DecisionStatus::Unavailable, DecisionOutcome::FailedClosed);
            return closed.with_violated_limit(&charge.limit);
        }
        let answer = self.shares.judge(&shares);
        let local = Decision::from_verdict(&shares, &answer.verdict, super::DecidedBy::Fallback);
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
    fn with_violated_limit(mut self, limit: &Limit) -> Self {
        self.decision.violated = Some(Arc::clone(limit.name()));
        self.limit = Some(Arc::clone(limit.label()));
        self
    }
}

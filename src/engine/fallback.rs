//! The fallback: decisions while the store is unreachable, by the plan's failure policy.
//!
//! Under `local` each node enforces its own share of each limit. Its token buckets live as long as
//! the process, so that a store that fails repeatedly does not grant new budgets. The store detects
//! its failures itself, by timeouts and circuit breakers. A node that has too many checks for a
//! store that replies is overloaded. That is no outage, and no policy admits checks because of it:
//! else a flood would lift the limits.

use std::sync::Arc;

use super::decision::{DecidedBy, Decision, DecisionStatus};
use crate::failure_policy::FailurePolicy;
use crate::judge::Verdict;
use crate::limit::{Adjustment, Charge, Charges, Limit, NewReservation, ReservationTerms};
use crate::store::{AdjustReply, MemoryStore, Redis, ReserveReply, StoreError};
use crate::telemetry::DecisionOutcome;
use crate::time::Micros;

/// The time after which a request to an overloaded node may be retried.
const OVERLOAD_RETRY: Micros = Micros::from_secs(1);

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

/// A reservation in the node's own share.
pub(super) struct LocalReservation {
    /// Its terms.
    pub(super) terms: ReservationTerms,
    /// True if an earlier check has opened it.
    pub(super) replayed: bool,
}

impl Fallback {
    /// A fallback that keeps the token buckets of shares in `shares`. `redis` counts the nodes that
    /// share the limits.
    #[must_use]
    pub fn new(shares: MemoryStore, redis: Option<Arc<Redis>>) -> Self {
        Self { shares, redis }
    }

    /// Decides a check that waited too long for a store that replies. A check without enforced
    /// limits is never refused.
    pub(super) fn decide_overloaded(charges: &Charges) -> FallbackDecision {
        let enforced = charges.iter().any(|charge| !charge.limit.shadow());
        let (status, wait) = if enforced {
            (DecisionStatus::Overloaded, OVERLOAD_RETRY)
        } else {
            (DecisionStatus::Allowed, Micros::ZERO)
        };
        let mut decision = Decision::without_limits(status, None, wait);
        decision.decided_by = DecidedBy::Overload;
        FallbackDecision { decision, limit: None, outcome: DecisionOutcome::Overloaded }
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

    /// Decides by `policy` a check with a subject that is new to a store which is nearly full.
    pub(super) fn decide_full(&self, charges: &Charges, policy: FailurePolicy) -> FallbackDecision {
        self.decide(charges, policy).because_full()
    }

    /// Decides a check that requests a reservation, which only a node's own share can keep. `None`
    /// if another check is open under the name.
    pub(super) fn reserve(
        &self,
        charges: &Charges,
        policy: FailurePolicy,
        new: &NewReservation,
    ) -> Option<(FallbackDecision, Option<LocalReservation>)> {
        self.decide_with(charges, policy, Some(new), |shares| self.shares.reserve(shares, new))
    }

    /// The decision that a check, or one that requests the reservation `new`, would get now.
    /// Charges nothing.
    pub(super) fn dry_run(
        &self,
        charges: &Charges,
        policy: FailurePolicy,
        new: Option<&NewReservation>,
    ) -> Option<(FallbackDecision, Option<LocalReservation>)> {
        self.decide_with(charges, policy, new, |shares| self.shares.dry_run(shares, new))
    }

    /// Decides by `policy`; by the node's own shares as `judge` does.
    fn decide_with(
        &self,
        charges: &Charges,
        policy: FailurePolicy,
        new: Option<&NewReservation>,
        judge: impl FnOnce(&Charges) -> Result<ReserveReply, StoreError>,
    ) -> Option<(FallbackDecision, Option<LocalReservation>)> {
        let enforced = charges.iter().any(|charge| !charge.limit.shadow());
        if policy != FailurePolicy::Local || !enforced {
            return Some((self.decide(charges, policy), None));
        }
        let shares = match self.to_shares(charges) {
            Ok(shares) => shares,
            Err(limit) => return Some((exceeds_share(&limit), None)),
        };
        let Ok(reply) = judge(&shares) else {
            return Some((self.decide(charges, FailurePolicy::Closed), None));
        };
        match reply {
            ReserveReply::Judged(judged) => {
                let new = new.filter(|_| judged.verdict.allowed);
                let opened =
                    new.map(|new| LocalReservation { terms: new.terms.clone(), replayed: false });
                Some((decide_by_shares(&shares, &judged.verdict), opened))
            }
            ReserveReply::Replayed(_, terms) => {
                let allowed =
                    fallback_decision(DecisionStatus::Allowed, DecisionOutcome::LocalAllowed);
                Some((allowed, Some(LocalReservation { terms, replayed: true })))
            }
            ReserveReply::Conflict => None,
        }
    }

    /// Adjusts a reservation of the node's own share.
    pub(super) fn adjust(&self, adjustment: &Adjustment) -> AdjustReply {
        let (nodes, mut adjustment) = (self.live_nodes(), adjustment.clone());
        for limit in adjustment.charges.iter_mut().filter_map(|charge| charge.limit.as_mut()) {
            *limit = Arc::new(limit.per_node_share(nodes));
        }
        self.shares.adjust(&adjustment)
    }

    fn live_nodes(&self) -> u64 {
        self.redis.as_ref().map_or(1, |redis| redis.live_nodes())
    }

    fn decide_locally(&self, charges: &Charges) -> FallbackDecision {
        let shares = match self.to_shares(charges) {
            Ok(shares) => shares,
            Err(limit) => return exceeds_share(&limit),
        };
        match self.shares.judge(&shares) {
            Ok(judged) => decide_by_shares(&shares, &judged.verdict),
            // The node has no room to count a new subject either.
            Err(_) => fallback_decision(DecisionStatus::Unavailable, DecisionOutcome::FailedClosed),
        }
    }

    /// The charges against the node's own share of each limit. The error is a share that a cost
    /// exceeds.
    fn to_shares(&self, charges: &Charges) -> Result<Charges, Arc<Limit>> {
        let nodes = self.live_nodes();
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
            return Err(Arc::clone(&charge.limit));
        }
        Ok(shares)
    }
}

/// The decision that follows from a verdict on the node's own shares.
fn decide_by_shares(shares: &Charges, verdict: &Verdict) -> FallbackDecision {
    let local = Decision::from_verdict(shares, verdict, DecidedBy::Fallback);
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

/// The decision about a cost that fits the limit, but not the node's share of it.
fn exceeds_share(limit: &Limit) -> FallbackDecision {
    fallback_decision(DecisionStatus::Unavailable, DecisionOutcome::FailedClosed)
        .with_violated_limit(limit)
}

fn fallback_decision(status: DecisionStatus, outcome: DecisionOutcome) -> FallbackDecision {
    let decision = Decision::without_limits(status, None, Micros::ZERO);
    FallbackDecision { decision, limit: None, outcome }
}

impl FallbackDecision {
    /// The decision of a report. Only a node's own share has charged it. Elsewhere it is an error,
    /// also under `open`, so that the caller may retry it.
    pub(super) fn into_report(mut self) -> Self {
        let (status, outcome) = match self.outcome {
            DecisionOutcome::LocalAllowed | DecisionOutcome::LocalRefused => {
                (DecisionStatus::Reported, DecisionOutcome::Reported)
            }
            DecisionOutcome::Overloaded => {
                (DecisionStatus::Unreported, DecisionOutcome::Overloaded)
            }
            DecisionOutcome::FullOpen | DecisionOutcome::FullClosed => {
                (DecisionStatus::Unreported, DecisionOutcome::FullClosed)
            }
            _ => (DecisionStatus::Unreported, DecisionOutcome::FailedClosed),
        };
        (self.decision.status, self.outcome) = (status, outcome);
        self
    }

    /// The same decision because the store is nearly full, not lost.
    pub(super) fn because_full(mut self) -> Self {
        self.decision.decided_by = DecidedBy::FullStore;
        self.outcome = match self.outcome {
            DecisionOutcome::FailedOpen => DecisionOutcome::FullOpen,
            DecisionOutcome::FailedClosed => DecisionOutcome::FullClosed,
            local => local,
        };
        self
    }

    fn with_violated_limit(mut self, limit: &Limit) -> Self {
        self.decision.violated = Some(Arc::clone(limit.name()));
        self.limit = Some(Arc::clone(limit.label()));
        self
    }
}

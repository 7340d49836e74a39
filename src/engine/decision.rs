//! The decision of a check, which becomes its response: allowed or refused, and the status of each
//! limit.
//!
//! JSON and headers are written by `http` and `grpc`.

use std::sync::Arc;

use smallvec::SmallVec;

use super::reserve::Reservation;
use crate::catalog::ApiKey;
use crate::judge::{self, LimitStatus, Verdict};
use crate::limit::{Charge, Charges, Limit};
use crate::store::Store;
pub use crate::telemetry::DecidedBy;
use crate::time::Micros;

/// The place where the store decides.
pub(super) const fn place_of(store: &Store) -> DecidedBy {
    match store {
        Store::Memory(_) => DecidedBy::Memory,
        Store::Redis(_) => DecidedBy::Redis,
    }
}

/// The result of a check; it determines the status code of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionStatus {
    /// All limits had room.
    Allowed,
    /// A limit has no room at present.
    Refused,
    /// The cost is larger than a limit and can never fit.
    TooLarge,
    /// The store is unreachable, and the plan fails closed.
    Unavailable,
    /// Too many of the node's checks wait for the store, whatever the plan says about a lost one.
    Overloaded,
    /// A report was charged, whatever the limits say.
    Reported,
    /// The store is unreachable or the node is overloaded, so that a report may not have been
    /// charged.
    Unreported,
}

/// A limit and its status after a check.
#[derive(Clone, Debug)]
pub struct LimitOutcome {
    /// The limit.
    pub limit: Arc<Limit>,
    /// Remaining units and waiting times.
    pub status: LimitStatus,
    /// True if the check is refused because of this limit.
    pub refuses: bool,
}

/// The decision of a check.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The result.
    pub status: DecisionStatus,
    /// The name of the first limit that refuses the request; of a report, the first one in debt.
    pub violated: Option<Arc<str>>,
    /// The time until a retry with the same cost fits all limits.
    pub retry_after: Micros,
    /// The client's API key.
    pub key: Option<Arc<ApiKey>>,
    /// The plan that was applied.
    pub plan: Option<Arc<str>>,
    /// All limits in order, without meters; empty if the store did not judge the check.
    pub limits: SmallVec<[LimitOutcome; 2]>,
    /// The place where the check was decided.
    pub decided_by: DecidedBy,
    /// The reservation that an admitted check requested; boxed, since few do.
    pub reservation: Option<Box<Reservation>>,
}

impl Decision {
    /// The decision that follows from a verdict of the store.
    #[must_use]
    pub fn from_verdict(charges: &Charges, verdict: &Verdict, decided_by: DecidedBy) -> Self {
        let limited = charges.iter().zip(&verdict.states);
        let limited = limited.filter(|(charge, _)| !charge.limit.is_meter());
        let outcomes = limited.map(|(charge, &state)| {
            let is_made = judge::is_made(charge, state, verdict.allowed);
            let status = judge::limit_status(charge, state, is_made, verdict.now);
            let refuses = !status.fits
                && (charge.limit.refuses_alone() || charge.limit.alternative() && !verdict.allowed);
            LimitOutcome { limit: Arc::clone(&charge.limit), status, refuses }
        });
        let status =
            if verdict.allowed { DecisionStatus::Allowed } else { DecisionStatus::Refused };
        let mut decision = Self { decided_by, ..Self::without_limits(status, None, Micros::ZERO) };
        decision.limits.extend(outcomes);
        let refusing = decision.limits.iter().filter(|outcome| outcome.refuses);
        // A retry must wait for all limits that refuse on their own, and for one of the
        // alternatives.
        let retry_afters = |alone| {
            let same_kind = move |outcome: &&LimitOutcome| outcome.limit.refuses_alone() == alone;
            refusing.clone().filter(same_kind).map(|outcome| outcome.status.retry_after)
        };
        let retry_after = retry_afters(true).max().max(retry_afters(false).min());
        decision.violated = refusing.map(|outcome| Arc::clone(outcome.limit.name())).next();
        decision.retry_after = retry_after.unwrap_or_default();
        decision
    }

    /// Makes a retry wait for the `pause` of each leased limit that refuses on its own.
    pub(super) fn wait_for(&mut self, charges: &Charges, pause: impl Fn(&Charge) -> Micros) {
        let limited = charges.iter().filter(|charge| !charge.limit.is_meter());
        for (outcome, charge) in self.limits.iter_mut().zip(limited) {
            if outcome.refuses && outcome.limit.leased() && outcome.limit.refuses_alone() {
                let wait = &mut outcome.status.retry_after;
                *wait = (*wait).max(pause(charge));
                self.retry_after = self.retry_after.max(*wait);
            }
        }
    }

    /// A decision of the node, without the status of any limit.
    pub(super) fn without_limits(
        status: DecisionStatus,
        violated: Option<Arc<str>>,
        retry_after: Micros,
    ) -> Self {
        Self {
            status,
            violated,
            retry_after,
            key: None,
            plan: None,
            limits: SmallVec::new(),
            decided_by: DecidedBy::Fallback,
            reservation: None,
        }
    }

    pub(super) fn too_large(
        violated: Arc<str>,
        key: Option<Arc<ApiKey>>,
        plan: Option<Arc<str>>,
        decided_by: DecidedBy,
    ) -> Self {
        let decision = Self::without_limits(DecisionStatus::TooLarge, Some(violated), Micros::ZERO);
        Self { key, plan, decided_by, ..decision }
    }

    /// The same status of the limits as an admitted check, which was charged before.
    pub(super) fn without_refusal(mut self) -> Self {
        (self.status, self.violated) = (DecisionStatus::Allowed, None);
        self.retry_after = Micros::ZERO;
        self.limits.iter_mut().for_each(|outcome| outcome.refuses = false);
        self
    }

    pub(super) fn set_key_and_plan(&mut self, key: Option<Arc<ApiKey>>, plan: Option<Arc<str>>) {
        self.key = key;
        self.plan = plan;
    }

    /// True if the request is admitted; of a report, if no limit is in debt.
    #[must_use]
    pub fn allowed(&self) -> bool {
        match self.status {
            DecisionStatus::Allowed => true,
            DecisionStatus::Reported => self.violated.is_none(),
            _ => false,
        }
    }

    /// The first limit that refuses; `None` if the store did not judge the check.
    #[must_use]
    pub fn violated_limit(&self) -> Option<&Arc<Limit>> {
        self.limits.iter().find(|outcome| outcome.refuses).map(|outcome| &outcome.limit)
    }
}

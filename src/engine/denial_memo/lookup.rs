//! Looking a check up in the memo: the decision that its cached refusals make.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::cached_refusal::Lookup;
use super::{DenialMemo, MAX_TTL, Refusals, SHORT_TTL};
use crate::engine::decision::{DecidedBy, Decision, DecisionStatus, LimitOutcome};
use crate::limit::{Charge, Charges};

impl DenialMemo {
    /// The decision for a check that a cached refusal still refuses.
    pub(in crate::engine) fn lookup(&self, charges: &Charges) -> Option<Decision> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (limits, asks) = self.evaluate(&refusals, charges, now)?;
        if asks && limits.is_empty() {
            refusals.begin_renewals(charges, now);
            self.has_renewals.store(true, Ordering::Relaxed);
        }
        refusal(limits)
    }

    /// The decision that [`DenialMemo::lookup`] would make now; begins no renewal.
    pub(in crate::engine) fn peek(&self, charges: &Charges) -> Option<Decision> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let (limits, _) = self.evaluate(&refusals, charges, Instant::now())?;
        refusal(limits)
    }

    /// The limits that still refuse the check, and true if the store has to be asked about others;
    /// `None` if the memo has nothing to say about it.
    fn evaluate(
        &self,
        refusals: &Refusals,
        charges: &Charges,
        now: Instant,
    ) -> Option<(SmallVec<[LimitOutcome; 2]>, bool)> {
        // A charge that is made in any case must reach the store.
        if refusals.by_counter.is_empty() || charges.iter().any(Charge::is_forced) {
            return None;
        }
        let max_age = if self.reservations.has_opened() { SHORT_TTL } else { MAX_TTL };
        let mut limits = SmallVec::new();
        let mut asks = false;
        for charge in charges.iter().filter(|charge| charge.limit.refuses_alone()) {
            let entry = refusals.by_counter.get(&charge.counter());
            match entry.and_then(|entry| entry.evaluate(charge, now, max_age)) {
                Some(Lookup::Refused(outcome)) => limits.push(outcome),
                Some(Lookup::Ask) => asks = true,
                None => {}
            }
        }
        Some((limits, asks))
    }
}

/// The refusal by these limits; `None` if there are none.
fn refusal(limits: SmallVec<[LimitOutcome; 2]>) -> Option<Decision> {
    let violated = Arc::clone(limits.first()?.limit.name());
    let retry_after = limits.iter().map(|outcome| outcome.status.retry_after).max()?;
    Some(Decision {
        limits,
        decided_by: DecidedBy::Memo,
        ..Decision::without_limits(DecisionStatus::Refused, Some(violated), retry_after)
    })
}

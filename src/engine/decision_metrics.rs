//! Decisions as metrics: one count for each check, and one for each shadow limit without room.

use super::observer::{DecidedCheck, DecisionObserver};
use crate::telemetry::{DecisionOutcome, WorkerMetrics};

impl DecisionObserver for WorkerMetrics {
    fn on_decision(&self, check: &DecidedCheck<'_>) {
        let Some(label) = check.label else { return };
        let shadow_refusals = check.decision.limits.iter();
        let shadow_refusals = shadow_refusals
            .filter(|outcome| outcome.limit.shadow() && !outcome.status.fits)
            .map(|outcome| outcome.limit.label());
        for limit in shadow_refusals {
            self.record_decision(label, Some(limit), DecisionOutcome::ShadowRefused);
        }
        self.record_decision(label, check.refusing, check.outcome);
    }
}

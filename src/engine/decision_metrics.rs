//! Decisions as metrics: one count for each check, and one for each shadow limit without room; and
//! the debts that reports leave.

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
        if check.outcome == DecisionOutcome::Reported {
            self.record_debts(label, check);
        }
    }
}

impl WorkerMetrics {
    /// Records the debts that a report has left. A limit that it did not charge is left out.
    fn record_debts(&self, label: &str, check: &DecidedCheck<'_>) {
        let limited = check.charges.iter().filter(|charge| !charge.limit.is_meter());
        for (charge, outcome) in limited.zip(&check.decision.limits) {
            if charge.cost > 0 && outcome.status.debt > 0 {
                self.record_debt(label, outcome.limit.label(), outcome.status.debt);
            }
        }
    }
}

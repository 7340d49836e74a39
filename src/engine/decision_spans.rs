//! The decision of each sampled check, in the span of its request.

use std::sync::Arc;

use super::observer::{DecidedCheck, DecisionObserver};
use crate::telemetry::SpanDecision;

/// Adds decisions to the spans that their checks have.
pub(super) struct DecisionSpans;

impl DecisionObserver for DecisionSpans {
    fn on_decision(&self, check: &DecidedCheck<'_>) {
        let Some(span) = check.context.span() else { return };
        span.decide(SpanDecision {
            plan: check.decision.plan.clone().or_else(|| check.label.cloned()),
            limit: check.refusing.map(Arc::clone),
            outcome: check.outcome.as_str(),
            decided_by: check.decision.decided_by.as_str(),
            is_refusal: check.outcome.is_refusal(),
        });
    }
}

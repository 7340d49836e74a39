//! In the place of `traces` in a build without the feature `otel`: there are no spans.

use std::sync::Arc;
use std::time::Duration;

use super::{SpanDecision, TraceContext};

/// Begins spans: there is none.
pub enum Tracer {}

/// The span of a request with checks: there is none.
#[derive(Debug)]
pub enum RequestSpan {}

impl Tracer {
    /// Begins the span of a request.
    #[must_use]
    pub fn begin(
        self: &Arc<Self>,
        _: &'static str,
        _: Option<TraceContext>,
    ) -> Option<RequestSpan> {
        match **self {}
    }

    /// Queues the span of a call.
    pub fn record_call(&self, _: Duration, _: usize, _: impl Iterator<Item = TraceContext>) {
        match *self {}
    }
}

impl RequestSpan {
    /// The span's own place in the trace.
    #[must_use]
    pub fn context(&self) -> TraceContext {
        match *self {}
    }

    /// Adds a decision.
    pub fn decide(&self, _: SpanDecision) {
        match *self {}
    }
}

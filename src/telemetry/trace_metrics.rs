//! The metrics of traces.

use prometheus::{IntCounterVec, Registry};

use super::register::counter_vec;

/// The fate of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanFate {
    /// The collector has accepted them.
    Exported,
    /// The queue was full.
    Dropped,
    /// The collector could not be reached in time, or refused them.
    Failed,
}

impl SpanFate {
    const ALL: [Self; 3] = [Self::Exported, Self::Dropped, Self::Failed];

    /// The label value.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// The metrics of traces.
pub struct TraceMetrics(IntCounterVec);

impl TraceMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let help = "Spans of traces, by what became of them.";
        let spans = counter_vec(registry, "trace_spans_total", help, &["outcome"]);
        for fate in SpanFate::ALL {
            spans.with_label_values(&[fate.as_str()]);
        }
        Self(spans)
    }

    /// Counts spans.
    pub fn record(&self, fate: SpanFate, spans: u64) {
        self.0.with_label_values(&[fate.as_str()]).inc_by(spans);
    }
}

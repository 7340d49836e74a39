//! Metrics, logs and traces.
//!
//! No request is known here. Label values come from the catalog or from enums, never from a client,
//! and secrets are never passed to this module.

mod logs;
mod metrics;
mod outcomes;
mod register;
mod reservations;
mod sample;
mod trace_context;
mod trace_metrics;
#[cfg(feature = "otel")]
mod traces;
#[cfg(not(feature = "otel"))]
#[path = "no_traces.rs"]
mod traces;
mod webhooks;
mod worker;

pub use logs::{LogThrottle, init_logs};
pub use metrics::{LATENCY_BUCKETS, Metrics, STORE_ERROR_KINDS};
pub use outcomes::{ConnectionEnd, DecidedBy, DecisionOutcome};
pub use reservations::{ReservationMetrics, ReservationOutcome};
pub use sample::MetricsSample;
pub use trace_context::{SpanDecision, TraceContext};
pub use trace_metrics::{SpanFate, TraceMetrics};
#[cfg(feature = "otel")]
pub use traces::SpanQueue;
pub use traces::{RequestSpan, Tracer};
pub use webhooks::{DeliveryOutcome, WebhookMetrics};
pub use worker::WorkerMetrics;

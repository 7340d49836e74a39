//! Spans for OpenTelemetry: of each sampled request with checks, and of the calls to the store that
//! carried its checks.
//!
//! A request that is not sampled costs its parent's parsing and one look at the sampler. Spans go
//! to a bounded queue and never wait; what finds it full is counted. The exporter is woken for a
//! batch, not for a span. Spans have names of the catalog and words of enums, and no text of a
//! client. Export is `app`'s.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{
    IdGenerator as _, RandomIdGenerator, SamplingDecision, ShouldSample, SpanData, SpanEvents,
    SpanLinks,
};
use tokio::sync::{Notify, mpsc};

use super::{Metrics, SpanDecision, SpanFate, TraceContext};
use crate::time::{Clock as _, Micros, SystemClock};

/// The most checks that the span of a call is linked to.
const MAX_LINKS: usize = 128;

/// Begins spans, and queues those that have ended.
pub struct Tracer {
    sampler: Box<dyn ShouldSample>,
    ids: RandomIdGenerator,
    queue: mpsc::Sender<SpanData>,
    batch: usize,
    has_batch: Arc<Notify>,
    scope: InstrumentationScope,
    metrics: Arc<Metrics>,
}

/// The ended spans that wait for their export.
pub struct SpanQueue {
    spans: mpsc::Receiver<SpanData>,
    batch: usize,
    has_batch: Arc<Notify>,
    /// The first span of the next batch, if it has been received.
    first: Option<SpanData>,
}

/// The span of a request with checks; it ends with the last decision, or when it is dropped.
pub struct RequestSpan {
    tracer: Arc<Tracer>,
    name: &'static str,
    context: TraceContext,
    caller: Option<TraceContext>,
    begin: Micros,
    decided: Mutex<DecidedChecks>,
}

/// The decisions of a request so far.
#[derive(Default)]
struct DecidedChecks {
    checks: i64,
    refused: i64,
    last: Option<(SpanDecision, Micros)>,
}

impl Tracer {
    /// A tracer, and its queue of at most `capacity` spans, which are exported by `batch` of them.
    #[must_use]
    pub fn new(
        sampler: Box<dyn ShouldSample>,
        capacity: usize,
        batch: usize,
        metrics: Arc<Metrics>,
    ) -> (Arc<Self>, SpanQueue) {
        let capacity = capacity.max(1);
        let batch = batch.clamp(1, capacity);
        let (queue, spans) = mpsc::channel(capacity);
        let has_batch = Arc::<Notify>::default();
        let waiting = SpanQueue { spans, batch, has_batch: Arc::clone(&has_batch), first: None };
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"));
        let scope = scope.with_version(env!("CARGO_PKG_VERSION")).build();
        let ids = RandomIdGenerator::default();
        let tracer = Self { sampler, ids, queue, batch, has_batch, scope, metrics };
        (Arc::new(tracer), waiting)
    }

    /// Begins the span of a request, in the trace of its caller; `None` if it is not sampled.
    #[must_use]
    pub fn begin(
        self: &Arc<Self>,
        name: &'static str,
        caller: Option<TraceContext>,
    ) -> Option<RequestSpan> {
        let parent = caller
            .map(|caller| Context::new().with_remote_span_context(span_context(caller, true)));
        let trace_id = match caller {
            Some(caller) => TraceId::from_bytes(caller.trace_id),
            None => self.ids.new_trace_id(),
        };
        let kind = SpanKind::Server;
        let sampled = self.sampler.should_sample(parent.as_ref(), trace_id, name, &kind, &[], &[]);
        if sampled.decision != SamplingDecision::RecordAndSample {
            return None;
        }
        Some(RequestSpan {
            tracer: Arc::clone(self),
            name,
            context: self.new_span(trace_id.to_bytes()),
            caller,
            begin: SystemClock.now(),
            decided: Mutex::default(),
        })
    }

    /// Queues the span of a call that ended just now, with a link to each of its sampled checks. It
    /// is a child of the first; a call without any has no span.
    pub fn record_call(
        &self,
        duration: Duration,
        checks: usize,
        sampled: impl Iterator<Item = TraceContext>,
    ) {
        let mut links = SpanLinks::default();
        let sampled = sampled.take(MAX_LINKS).map(|check| span_context(check, false));
        links.links = sampled.map(Link::with_context).collect();
        let Some(first) = links.links.first().map(|link| link.span_context.clone()) else { return };
        let end = time(SystemClock.now());
        let checks = i64::try_from(checks).unwrap_or(i64::MAX);
        self.queue(SpanData {
            span_context: span_context(self.new_span(first.trace_id().to_bytes()), false),
            parent_span_id: first.span_id(),
            parent_span_is_remote: false,
            span_kind: SpanKind::Client,
            name: "store call".into(),
            start_time: end.checked_sub(duration).unwrap_or(end),
            end_time: end,
            attributes: vec![
                KeyValue::new("db.system.name", "redis"),
                KeyValue::new("tollgate.checks", checks),
            ],
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        });
    }

    fn new_span(&self, trace_id: [u8; 16]) -> TraceContext {
        let span_id = self.ids.new_span_id().to_bytes();
        TraceContext { trace_id, span_id, is_sampled: true }
    }

    fn queue(&self, span: SpanData) {
        if self.queue.try_send(span).is_err() {
            self.metrics.traces.record(SpanFate::Dropped, 1);
        }
        if self.queue.max_capacity() - self.queue.capacity() >= self.batch {
            self.has_batch.notify_one();
        }
    }
}

impl SpanQueue {
    /// Waits until a batch is full, or for `delay` after its first span. Cancel safe.
    pub async fn ready(&mut self, delay: Duration) {
        if self.first.is_none() {
            self.first = self.spans.recv().await;
        }
        // Several batches may have been filled since the last one was taken.
        if self.spans.len() + usize::from(self.first.is_some()) >= self.batch {
            return;
        }
        tokio::select! {
            () = self.has_batch.notified() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }

    /// The next batch of the spans that wait; empty if none does.
    pub fn take(&mut self) -> Vec<SpanData> {
        let mut batch: Vec<SpanData> = self.first.take().into_iter().collect();
        while batch.len() < self.batch
            && let Ok(span) = self.spans.try_recv()
        {
            batch.push(span);
        }
        batch
    }
}

impl RequestSpan {
    /// The span's own place in the trace.
    #[must_use]
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Adds a decision. Of several checks the span has their numbers.
    pub fn decide(&self, decision: SpanDecision) {
        let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        decided.checks += 1;
        decided.refused += i64::from(decision.is_refusal);
        decided.last = Some((decision, SystemClock.now()));
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        let decided = self.decided.get_mut().unwrap_or_else(PoisonError::into_inner);
        let last = decided.last.take();
        let end = last.as_ref().map_or_else(|| SystemClock.now(), |(_, end)| *end);
        let attributes = match last {
            Some((decision, _)) if decided.checks == 1 => attributes(decision),
            _ => vec![
                KeyValue::new("tollgate.checks", decided.checks),
                KeyValue::new("tollgate.refused", decided.refused),
            ],
        };
        let parent = self.caller.map_or(SpanId::INVALID, |it| SpanId::from_bytes(it.span_id));
        self.tracer.queue(SpanData {
            span_context: span_context(self.context, false),
            parent_span_id: parent,
            parent_span_is_remote: self.caller.is_some(),
            span_kind: SpanKind::Server,
            name: self.name.into(),
            start_time: time(self.begin),
            end_time: time(end.max(self.begin)),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.tracer.scope.clone(),
        });
    }
}

impl std::fmt::Debug for RequestSpan {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RequestSpan")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

fn attributes(decision: SpanDecision) -> Vec<KeyValue> {
    let SpanDecision { plan, limit, outcome, decided_by, .. } = decision;
    let mut attributes = vec![
        KeyValue::new("tollgate.outcome", outcome),
        KeyValue::new("tollgate.decided_by", decided_by),
    ];
    attributes.extend(plan.map(|plan| KeyValue::new("tollgate.plan", plan)));
    attributes.extend(limit.map(|limit| KeyValue::new("tollgate.limit", limit)));
    attributes
}

fn span_context(span: TraceContext, is_remote: bool) -> SpanContext {
    let flags = if span.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace_id, span_id) =
        (TraceId::from_bytes(span.trace_id), SpanId::from_bytes(span.span_id));
    SpanContext::new(trace_id, span_id, flags, is_remote, TraceState::NONE)
}

fn time(at: Micros) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(at.get())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use opentelemetry_sdk::trace::Sampler;

    use super::*;

    #[tokio::test]
    async fn the_exporter_waits_for_a_batch_or_the_delay_and_gets_every_span_once() {
        const LONG: Duration = Duration::from_hours(1);
        let sampler = Box::new(Sampler::AlwaysOn);
        let (tracer, mut spans) = Tracer::new(sampler, 8, 3, Arc::new(Metrics::new()));
        let end_spans = |count| (0..count).for_each(|_| drop(tracer.begin("check", None)));
        assert!(spans.ready(Duration::ZERO).now_or_never().is_none(), "there is none to wait for");
        end_spans(2);
        assert!(spans.ready(LONG).now_or_never().is_none(), "a batch has three");
        end_spans(5);
        for _ in 0..2 {
            assert!(spans.ready(LONG).now_or_never().is_some(), "there are two batches");
            assert_eq!(spans.take().len(), 3);
        }
        assert_eq!((spans.take().len(), spans.take().len()), (1, 0));
        end_spans(1);
        spans.ready(Duration::ZERO).await;
        assert_eq!(spans.take().len(), 1, "its delay has passed");
        end_spans(9);
        assert_eq!(spans.take().len() + spans.take().len() + spans.take().len(), 8, "one is lost");
    }
}

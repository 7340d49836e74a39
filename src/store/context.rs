//! The context of a check: the request that it belongs to, and the trace of that, carried to the
//! script call that judges the check.
//!
//! A context changes no decision. The store itself neither logs nor counts it; it only hands it to
//! an observer of calls.

use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::{RequestSpan, TraceContext, Tracer};

/// The context of a check: its request, as far as something observes it.
///
/// It is empty, and costs nothing, unless calls to the store are observed or decisions are tailed.
#[derive(Clone, Debug, Default)]
pub struct CheckContext(Option<Arc<RequestContext>>);

/// The ids of the request that checks belong to.
#[derive(Debug, Default)]
pub struct RequestContext {
    /// The caller's `x-request-id`.
    pub request_id: Option<Arc<str>>,
    /// The place of the request in its trace: its own span, or else that of its caller.
    pub trace: Option<TraceContext>,
    /// The request's own span, if it is sampled.
    pub span: Option<RequestSpan>,
}

impl CheckContext {
    /// The context of checks whose request is not observed.
    pub const NONE: Self = Self(None);

    /// The context of the checks of a request.
    #[must_use]
    pub fn new(request: RequestContext) -> Self {
        Self(Some(Arc::new(request)))
    }

    /// True if nobody observes the request, or it has nothing to show.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The caller's `x-request-id`.
    #[must_use]
    pub fn request_id(&self) -> Option<&Arc<str>> {
        self.0.as_ref()?.request_id.as_ref()
    }

    /// The request's own span.
    #[must_use]
    pub fn span(&self) -> Option<&RequestSpan> {
        self.0.as_ref()?.span.as_ref()
    }

    /// The place of the request in its trace.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.0.as_ref()?.trace.as_ref()
    }
}

/// A script call that has ended, with or without a response.
#[derive(Debug)]
pub struct ScriptCall<'c> {
    /// The contexts of the checks that the call carried, in order. Checks of the node itself, such
    /// as renewals of leases, have none.
    pub contexts: &'c [CheckContext],
    /// The time from sending the call to its reply or failure. Calls in one pipeline have the same.
    pub duration: Duration,
}

/// Receives every call of the script that judges checks.
pub trait CallObserver: Send + Sync {
    /// Called when a call has ended. A check that is sent twice is in two calls.
    fn on_call(&self, call: &ScriptCall<'_>);
}

/// Records the span of each call that carried a sampled check.
impl CallObserver for Tracer {
    fn on_call(&self, call: &ScriptCall<'_>) {
        let ScriptCall { contexts, duration } = *call;
        let spans = contexts.iter().filter_map(CheckContext::span).map(RequestSpan::context);
        // The checks of a batch are those of one request.
        let mut last = None;
        let spans = spans.filter(move |span| last.replace(*span) != Some(*span));
        self.record_call(duration, contexts.len(), spans);
    }
}

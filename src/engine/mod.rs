//! The engine: from a check to its decision, by the catalog, the store, and the fallback.
//!
//! Each worker has one engine; what engines share is behind `Arc`s. Requests and responses of HTTP
//! and gRPC are not known here.

mod activity;
mod adjust;
mod conclude;
mod decision;
mod decision_metrics;
mod decision_spans;
mod denial_memo;
mod descriptors;
mod dry_run;
mod explain;
mod fallback;
mod full_store;
mod identity;
mod key_names;
mod new_keys;
mod new_reservation;
mod observer;
mod record;
mod repeat;
mod reserve;
mod slots;
mod tail;
mod top;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::catalog::{ApiKey, Catalog, CheckError, CheckRequest, ResolvedLimits};
use crate::control::{ClientKey, KeyDirectory, LiveCatalog};
use crate::failure_policy::FailurePolicy;
use crate::limit::{Charge, Charges, MAX_CHARGES};
use crate::store::{CheckContext, RequestContext, Store, StoreError};
use crate::telemetry::{DecisionOutcome, RequestSpan, TraceContext, Tracer, WorkerMetrics};
use crate::time::Micros;
use crate::transport::CallerIds;
pub use activity::{DeliveryAttempt, DeliveryLog, NodeActivity, node_name};
pub use adjust::{AdjustError, AdjustRequest, ReservationChange, ReservationStatus};
use conclude::Origin;
pub use decision::{DecidedBy, Decision, DecisionStatus, LimitOutcome};
use decision_spans::DecisionSpans;
use denial_memo::DenialMemo;
pub use descriptors::DescriptorCheck;
pub use explain::{ExplainedLimit, Explanation};
pub use fallback::{Fallback, FallbackDecision};
pub use new_keys::KnownSubjects;
use new_keys::LatestSubject;
pub use observer::{AdjustedCheck, DecidedCheck, DecisionObserver};
pub use record::{
    MergedLines, RecordSource, RecordedLine, Recorder, RefusalRow, ReplayError, Unplaced,
    UnplacedChecks, WhatIf, WhatIfKeys, WhatIfReport, key_ids, read_recent, replay,
};
pub use reserve::{NodeReservations, Reservation, ReservationRequest};
pub use tail::{MissedEvents, Tail, TailEvent, TailFilter, TailSubscription};
pub use top::{TopCounts, TopKeys, TopOrder, TopRow, WorkerTop, largest_rows};

/// The most charges of all checks of one request.
const MAX_REQUEST_CHARGES: usize = 65_536;

/// Decides the checks of one worker.
pub struct Engine {
    parts: EngineParts,
    memo: Option<Arc<DenialMemo>>,
    latest_subject: LatestSubject,
}

/// The parts of an engine.
pub struct EngineParts {
    /// The catalog.
    pub live: Arc<LiveCatalog>,
    /// Looks up API keys.
    pub directory: Arc<KeyDirectory>,
    /// The store of the counters.
    pub store: Store,
    /// Decides while the store is unreachable.
    pub fallback: Arc<Fallback>,
    /// The worker's metrics: checks in flight and their durations.
    pub metrics: Arc<WorkerMetrics>,
    /// The observers of decisions, in the order of their calls; then the tail, and the denial memo
    /// last.
    pub observers: Vec<Arc<dyn DecisionObserver>>,
    /// Those who watch decisions.
    pub tail: Arc<Tail>,
    /// Begins spans, if traces are exported.
    pub tracer: Option<Arc<Tracer>>,
    /// The timeout from a request that has been read to its decision.
    pub deadline: Duration,
    /// True if refusals of Redis are cached.
    pub denial_memo: bool,
    /// The state of reservations that the node's workers share.
    pub reservations: Arc<NodeReservations>,
    /// The subjects of policies that the node remembers.
    pub known_subjects: Arc<KnownSubjects>,
}

/// A check before the store has judged it.
enum Prepared<'r, 'q> {
    /// The store must judge these charges.
    Judge(PlanContext<'r, 'q>, Charges),
    /// The check is decided without the store.
    Decided(Decision),
}

/// The request of a check, and the API key and the plan, which its response names.
struct PlanContext<'r, 'q> {
    request: &'r CheckRequest<'q>,
    key: Option<Arc<ApiKey>>,
    name: Option<Arc<str>>,
    label: Option<Arc<str>>,
    on_store_failure: FailurePolicy,
    /// True if the check is a report.
    is_report: bool,
}

impl Engine {
    /// An engine with an empty denial memo. Without Redis there is none: a check in memory costs no
    /// more.
    #[must_use]
    pub fn new(mut parts: EngineParts) -> Self {
        parts.observers.push(Arc::clone(&parts.tail) as _);
        if parts.tracer.is_some() {
            parts.observers.push(Arc::new(DecisionSpans));
        }
        let memo = match &parts.store {
            Store::Redis(client) if parts.denial_memo => {
                let client = client.clone();
                let pause = Box::new(move |charge: &Charge| client.pause_after_refusal(charge));
                Some(Arc::new(DenialMemo::new(pause, Arc::clone(&parts.reservations))))
            }
            _ => None,
        };
        if let Some(memo) = &memo {
            parts.observers.push(Arc::clone(memo) as _);
        }
        Self { parts, memo, latest_subject: LatestSubject::default() }
    }

    /// The current catalog.
    #[must_use]
    pub fn catalog(&self) -> Guard<Arc<Catalog>> {
        self.parts.live.catalog()
    }

    /// The catalog and its sources.
    #[must_use]
    pub fn live(&self) -> &Arc<LiveCatalog> {
        &self.parts.live
    }

    /// The store of the counters.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    /// The context of a request's checks, from the ids that its caller gave it; empty if it has none
    /// or nobody reads them. `name` is that of the request's span.
    pub fn request_context<'r>(
        &self,
        name: &'static str,
        ids: impl FnOnce() -> CallerIds<'r>,
    ) -> CheckContext {
        let EngineParts { tail, tracer, store, .. } = &self.parts;
        let is_watched = tail.is_watched();
        if !is_watched && tracer.is_none() && !store.observes_contexts() {
            return CheckContext::NONE;
        }
        let ids = ids();
        let caller = ids.traceparent().and_then(TraceContext::parse);
        let span = tracer.as_ref().and_then(|tracer| tracer.begin(name, caller));
        if tracer.is_some() && span.is_none() && !is_watched {
            return CheckContext::NONE;
        }
        let (request_id, trace) = (ids.request_id(), span.as_ref().map(RequestSpan::context));
        let trace = trace.or(caller);
        if request_id.is_none() && trace.is_none() {
            return CheckContext::NONE;
        }
        CheckContext::new(RequestContext { request_id: request_id.map(Into::into), trace, span })
    }

    /// Decides one check.
    ///
    /// # Errors
    /// If the check is invalid: it names something that the catalog does not have, or an unknown
    /// API key.
    pub async fn check(
        &self,
        client: Option<ClientKey<'_>>,
        request: &CheckRequest<'_>,
        context: &CheckContext,
    ) -> Result<Decision, CheckError> {
        let started = Instant::now();
        let key = self.identify(client, started).await;
        let (mut plan, mut charges) = match self.prepare(client, key, request, context)? {
            Prepared::Judge(plan, charges) => (plan, charges),
            Prepared::Decided(decision) => {
                self.parts.metrics.record_duration(started.elapsed());
                return Ok(decision);
            }
        };
        let in_flight = self.parts.metrics.start_checks(1);
        let deadline = started + self.parts.deadline;
        // A loop has one await only: the future of a check stays small.
        let mut is_full = false;
        let mut decision = loop {
            let judged = self.parts.store.judge(&charges, context, deadline).await;
            let Err(StoreError::NewSubject(subject)) = judged else {
                is_full &= judged.is_ok();
                break self.conclude(plan, &charges, context, &judged);
            };
            is_full = true;
            match self.leave_out(*subject, plan, &charges, context) {
                Prepared::Judge(same_plan, rest) => (plan, charges) = (same_plan, rest),
                Prepared::Decided(decision) => break decision,
            }
        };
        drop(in_flight);
        if is_full {
            decision.decided_by = DecidedBy::FullStore;
        }
        self.parts.metrics.record_duration(started.elapsed());
        Ok(decision)
    }

    /// Decides many checks, each on its own. They reach the store together. A request that could
    /// not be parsed keeps its error and its place.
    ///
    /// # Errors
    /// If they have more than 65,536 charges in all. Then none of them is judged.
    pub async fn check_all<'a, E: From<CheckError>>(
        &self,
        requests: impl ExactSizeIterator<Item = Result<(Option<ClientKey<'a>>, CheckRequest<'a>), E>>,
        context: &CheckContext,
    ) -> Result<Vec<Result<Decision, E>>, E> {
        let started = Instant::now();
        let requests: Vec<_> = requests.collect();
        let clients =
            requests.iter().map(|request| request.as_ref().ok().and_then(|(client, _)| *client));
        let keys = join_all(clients.map(|client| self.identify(client, started))).await;
        let mut results = Vec::with_capacity(requests.len());
        let (mut pending, mut checks) = (Vec::new(), Vec::new());
        for (request, key) in requests.iter().zip(keys) {
            let Ok((client, request)) = request else {
                results.push(None);
                continue;
            };
            results.push(match self.prepare(*client, key, request, context) {
                Err(error) => Some(Err(error.into())),
                Ok(Prepared::Decided(decision)) => Some(Ok(decision)),
                Ok(Prepared::Judge(plan, charges)) => {
                    pending.push((results.len(), plan));
                    checks.push(charges);
                    None
                }
            });
        }
        if checks.iter().map(Charges::len).sum::<usize>() > MAX_REQUEST_CHARGES {
            return Err(CheckError::TooManyCharges { max: MAX_REQUEST_CHARGES }.into());
        }
        let in_flight = self.parts.metrics.start_checks(checks.len());
        let deadline = started + self.parts.deadline;
        let verdicts = self.parts.store.judge_all(&checks, context, deadline).await;
        drop(in_flight);
        let mut rest = Vec::new();
        for (((index, plan), charges), judged) in pending.into_iter().zip(checks).zip(verdicts) {
            if let Err(StoreError::NewSubject(subject)) = judged {
                let prepared = self.leave_out(*subject, plan, &charges, context);
                rest.push(self.judge_rest(prepared, context, deadline).map(move |it| (index, it)));
            } else {
                results[index] = Some(Ok(self.conclude(plan, &charges, context, &judged)));
            }
        }
        for (index, decision) in join_all(rest).await {
            results[index] = Some(Ok(decision));
        }
        let elapsed = started.elapsed();
        for _ in &results {
            self.parts.metrics.record_duration(elapsed);
        }
        let results = results.into_iter().zip(requests);
        Ok(results.filter_map(|(result, request)| result.or(request.err().map(Err))).collect())
    }

    fn prepare<'r, 'q>(
        &self,
        client: Option<ClientKey<'_>>,
        key: Result<Option<Arc<ApiKey>>, CheckError>,
        request: &'r CheckRequest<'q>,
        context: &CheckContext,
    ) -> Result<Prepared<'r, 'q>, CheckError> {
        let (plan, mut charges) = self.resolve(&self.catalog(), client, key, request)?;
        slots::only_read(&mut charges)?;
        if let Some(decision) = self.refuse_too_large(&plan, &charges, context) {
            return Ok(Prepared::Decided(decision));
        }
        if let Some(mut decision) = self.memo.as_ref().and_then(|memo| memo.lookup(&charges)) {
            let origin = Origin::new(context, plan.label.as_ref(), plan.request);
            decision.set_key_and_plan(plan.key, plan.name);
            self.observe_limits(origin, &charges, None, &decision, None);
            return Ok(Prepared::Decided(decision));
        }
        if let Some(decision) = self.refuse_new_keys(&plan, &charges, context) {
            return Ok(Prepared::Decided(decision));
        }
        Ok(Prepared::Judge(plan, charges))
    }

    /// The charges of a check that the store can judge. `key` is what the client was identified by.
    fn resolve<'r, 'q>(
        &self,
        catalog: &Catalog,
        client: Option<ClientKey<'_>>,
        key: Result<Option<Arc<ApiKey>>, CheckError>,
        request: &'r CheckRequest<'q>,
    ) -> Result<(PlanContext<'r, 'q>, Charges), CheckError> {
        let key = match client {
            Some(ClientKey::Secret(_)) => catalog.check_key_source(request).and(key),
            _ => key,
        };
        let key = match key {
            Err(CheckError::Forbidden { .. }) if catalog.needs_no_key(request) => None,
            key => key?,
        };
        // Only the validity of a key depends on the time.
        let now = key.as_ref().map_or(Micros::ZERO, |_| self.parts.store.now());
        let resolved = catalog.resolve(request, key.as_ref(), now);
        let ResolvedLimits { charges, key_policies, ignores_key, plan, label, on_store_failure } =
            resolved.map_err(|refusal| self.refusal_or_unready(refusal))?;
        let key = key.filter(|_| !ignores_key);
        if charges.len() > MAX_CHARGES {
            let detail = format!(
                "the check has {} limits, and at most {MAX_CHARGES} are allowed",
                charges.len()
            );
            return Err(CheckError::Invalid { field: "policies".into(), detail });
        }
        if let Some((one, other)) = self.parts.store.unjudgeable(&charges, key_policies) {
            return Err(CheckError::cross_subject(one, other));
        }
        let is_report = request.after_the_fact;
        let context = PlanContext { request, key, name: plan, label, on_store_failure, is_report };
        Ok((context, charges))
    }

    /// The first charge that can never fit, and the decision because of it.
    fn too_large<'c>(
        &self,
        plan: &PlanContext<'_, '_>,
        charges: &'c Charges,
    ) -> Option<(&'c Charge, Decision)> {
        let charge = charges.iter().find(|charge| {
            charge.exceeds_capacity() && !charge.limit.shadow() && !charge.is_forced()
        })?;
        let violated = Arc::clone(charge.limit.name());
        let by = decision::place_of(&self.parts.store);
        let decision = Decision::too_large(violated, plan.key.clone(), plan.name.clone(), by);
        Some((charge, decision))
    }

    /// The decision of a check with a cost that can never fit.
    fn refuse_too_large(
        &self,
        plan: &PlanContext<'_, '_>,
        charges: &Charges,
        context: &CheckContext,
    ) -> Option<Decision> {
        let (charge, decision) = self.too_large(plan, charges)?;
        self.notify_observers(&DecidedCheck {
            context,
            charges,
            verdict: None,
            decision: &decision,
            outcome: DecisionOutcome::TooLarge,
            label: plan.label.as_ref(),
            refusing: Some(charge.limit.label()),
            request: Some(plan.request.view()),
            reservation: None,
        });
        Some(decision)
    }
}

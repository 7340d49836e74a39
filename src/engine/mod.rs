//! From a check to its decision: catalog, charges, store, and what to do where the store is lost.
//!
//! One engine per worker; what they share is behind `Arc`s. HTTP, gRPC and their words are not
//! known here.

mod decision;
mod denial_memo;
mod descriptors;
mod fallback;
mod identity;
mod record;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::catalog::{ApiKey, Catalog, CheckError, CheckRequest, ResolvedLimits};
use crate::control::{ClientKey, KeyDirectory, LiveCatalog};
use crate::failure_policy::OnStoreFailure;
use crate::limit::Charges;
use crate::store::{MAX_CHARGES, Store, StoreError, StoreVerdict};
use crate::telemetry::{DecisionOutcome, WorkerMetrics};
use crate::webhook::Thresholds;
pub use decision::{DecidedBy, Decision, DecisionStatus, LimitOutcome};
use denial_memo::DenialMemo;
pub use fallback::{Fallback, FallbackDecision};
pub use record::{RecordedDecision, Recorder, ReplayError, replay};

/// Decides the checks of one worker.
pub struct Engine {
    parts: EngineParts,
    memo: Option<DenialMemo>,
}

/// What an engine is made from.
pub struct EngineParts {
    /// The catalog in use.
    pub live: Arc<LiveCatalog>,
    /// Who clients are.
    pub directory: Arc<KeyDirectory>,
    /// Where limits are counted.
    pub store: Store,
    /// What decides where the store does not.
    pub fallback: Arc<Fallback>,
    /// Where decisions are counted.
    pub metrics: Arc<WorkerMetrics>,
    /// Where decisions are written down.
    pub recorder: Option<Recorder>,
    /// From a check fully read to its answer.
    pub deadline: Duration,
    /// Whether refusals are remembered, by one of how many workers.
    pub denial_memo: Option<usize>,
    /// What looks for quotas that reach a threshold.
    pub thresholds: Option<Arc<Thresholds>>,
}

/// What is known of a check before the store is asked.
enum Prepared {
    /// The store has to judge these.
    Judge(PlanContext, Charges),
    /// No store can change this.
    Decided(Decision),
}

/// What the answer tells besides the limits.
struct PlanContext {
    key: Option<Arc<ApiKey>>,
    plan: Option<Arc<str>>,
    label: Option<Arc<str>>,
    on_store_failure: OnStoreFailure,
}

impl Engine {
    /// An engine that remembers nothing yet. In memory a refusal is no dearer than its memo.
    #[must_use]
    pub fn new(parts: EngineParts) -> Self {
        let workers = parts.denial_memo.filter(|_| matches!(parts.store, Store::Redis(_)));
        Self { memo: workers.map(DenialMemo::new), parts }
    }

    /// The catalog in use at this moment.
    #[must_use]
    pub fn catalog(&self) -> Guard<Arc<Catalog>> {
        self.parts.live.catalog()
    }

    /// Where limits are counted.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    /// Decides one check.
    ///
    /// # Errors
    /// Where the check cannot be judged: it names what the catalog does not have, or a key that
    /// may not ask.
    pub async fn check(
        &self,
        client: Option<ClientKey<'_>>,
        request: &CheckRequest<'_>,
    ) -> Result<Decision, CheckError> {
        let started = Instant::now();
        let key = self.identify(client, started).await?;
        let (context, charges) = match self.prepare(key, request)? {
            Prepared::Judge(context, charges) => (context, charges),
            Prepared::Decided(decision) => {
                self.parts.metrics.record_duration(started.elapsed());
                return Ok(decision);
            }
        };
        let in_flight = self.parts.metrics.start_checks(1);
        let answer = self.parts.store.judge(&charges, started + self.parts.deadline).await;
        drop(in_flight);
        let decision = self.conclude(context, &charges, answer);
        self.parts.metrics.record_duration(started.elapsed());
        Ok(decision)
    }

    /// Decides many checks, each on its own; they reach the store together.
    ///
    /// What could not even be read as a check keeps its error and its place.
    pub async fn check_all<'a, E: From<CheckError>>(
        &self,
        requests: impl ExactSizeIterator<Item = Result<(Option<ClientKey<'a>>, CheckRequest<'a>), E>>,
    ) -> Vec<Result<Decision, E>> {
        let started = Instant::now();
        let requests: Vec<_> = requests.collect();
        let clients =
            requests.iter().map(|request| request.as_ref().ok().and_then(|(client, _)| *client));
        let keys = join_all(clients.map(|client| self.identify(client, started))).await;
        let mut results = Vec::with_capacity(requests.len());
        let (mut pending, mut checks) = (Vec::new(), Vec::new());
        for (request, key) in requests.into_iter().zip(keys) {
            let prepared = request.and_then(|(_, request)| Ok(self.prepare(key?, &request)?));
            results.push(match prepared {
                Err(error) => Some(Err(error)),
                Ok(Prepared::Decided(decision)) => Some(Ok(decision)),
                Ok(Prepared::Judge(context, charges)) => {
                    pending.push((results.len(), context));
                    checks.push(charges);
                    None
                }
            });
        }
        let in_flight = self.parts.metrics.start_checks(checks.len());
        let answers = self.parts.store.judge_all(&checks, started + self.parts.deadline).await;
        drop(in_flight);
        for (((index, context), charges), answer) in pending.into_iter().zip(&checks).zip(answers) {
            results[index] = Some(Ok(self.conclude(context, charges, answer)));
        }
        let elapsed = started.elapsed();
        for _ in &results {
            self.parts.metrics.record_duration(elapsed);
        }
        results.into_iter().flatten().collect()
    }

    fn prepare(
        &self,
        key: Option<Arc<ApiKey>>,
        request: &CheckRequest<'_>,
    ) -> Result<Prepared, CheckError> {
        let catalog = self.parts.live.catalog();
        let resolved = catalog.resolve(request, key.as_ref(), self.parts.store.now());
        let ResolvedLimits { charges, plan, label, on_store_failure } =
            resolved.map_err(|refusal| self.refusal_or_unready(refusal))?;
        if charges.len() > MAX_CHARGES {
            let detail =
                format!("these are {} limits, and one check can have {MAX_CHARGES}", charges.len());
            return Err(CheckError::Invalid { field: "policies".into(), detail });
        }
        if let Some((one, other)) = self.parts.store.unjudgeable(&charges) {
            return Err(CheckError::cross_subject(one, other));
        }
        let context = PlanContext { key, plan, label, on_store_failure };
        let never_fitting =
            charges.iter().find(|charge| charge.exceeds_capacity() && !charge.limit.shadow());
        if let Some(charge) = never_fitting {
            self.count(&context, Some(charge.limit.label()), DecisionOutcome::TooLarge);
            let violated = Arc::clone(charge.limit.name());
            let by = DecidedBy::from_store(&self.parts.store);
            return Ok(Prepared::Decided(Decision::too_large(
                violated,
                context.key,
                context.plan,
                by,
            )));
        }
        if let Some(mut decision) = self.memo.as_ref().and_then(|memo| memo.lookup(&charges)) {
            self.count(
                &context,
                decision.violated_limit().map(|limit| limit.label()),
                DecisionOutcome::Refused,
            );
            decision.set_key_and_plan(context.key, context.plan);
            return Ok(Prepared::Decided(decision));
        }
        Ok(Prepared::Judge(context, charges))
    }

    fn conclude(
        &self,
        context: PlanContext,
        charges: &Charges,
        answer: Result<StoreVerdict, StoreError>,
    ) -> Decision {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.conclude_by_fallback(context, charges, &error),
        };
        if let (Some(thresholds), Some(key)) = (&self.parts.thresholds, &context.key) {
            thresholds.observe(key, charges, &answer.verdict);
        }
        let mut decision = self.apply_verdict(charges, &answer);
        for outcome in
            decision.limits.iter().filter(|outcome| outcome.limit.shadow() && !outcome.status.fits)
        {
            self.count(&context, Some(outcome.limit.label()), DecisionOutcome::ShadowRefused);
        }
        match decision.violated_limit() {
            None => self.count(&context, None, DecisionOutcome::Allowed),
            Some(limit) => self.count(&context, Some(limit.label()), DecisionOutcome::Refused),
        }
        decision.set_key_and_plan(context.key, context.plan);
        decision
    }

    /// What the store's answer means; it is recorded, and remembered where it refuses.
    fn apply_verdict(&self, charges: &Charges, answer: &StoreVerdict) -> Decision {
        if let Some(recorder) = &self.parts.recorder {
            recorder.record(charges, answer);
        }
        if let (Some(memo), false) = (&self.memo, answer.verdict.allowed) {
            memo.remember(charges, &answer.verdict);
        }
        let by =
            if answer.leased { DecidedBy::Lease } else { DecidedBy::from_store(&self.parts.store) };
        Decision::from_verdict(charges, &answer.verdict, by)
    }

    fn decide_by_fallback(
        &self,
        charges: &Charges,
        policy: OnStoreFailure,
        error: &StoreError,
    ) -> FallbackDecision {
        tracing::debug!(kind = error.kind(), %error, "a check is decided without the store");
        self.parts.fallback.decide(charges, policy)
    }

    fn conclude_by_fallback(
        &self,
        context: PlanContext,
        charges: &Charges,
        error: &StoreError,
    ) -> Decision {
        let fallback = self.decide_by_fallback(charges, context.on_store_failure, error);
        self.count(&context, fallback.limit.as_ref(), fallback.outcome);
        let mut decision = fallback.decision;
        decision.set_key_and_plan(context.key, context.plan);
        decision
    }

    fn count(&self, context: &PlanContext, limit: Option<&Arc<str>>, outcome: DecisionOutcome) {
        // Always there: nobody is judged without a plan or a policy.
        if let Some(label) = &context.label {
            self.parts.metrics.record_decision(label, limit, outcome);
        }
    }
}

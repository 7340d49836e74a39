//! From a check to its decision: catalog, charges, store, and what to do where the store is lost.
//!
//! One engine per worker; what they share is behind `Arc`s. HTTP, gRPC and their words are not
//! known here.

mod beside;
mod decision;
mod fallback;
mod identity;
mod memo;
mod record;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::catalog::{ApiKey, Ask, Catalog, Met, OnStoreFailure, Refusal};
use crate::control::{Client, Directory, Live};
use crate::limit::Charges;
use crate::store::{Answer, Error, MAX_CHARGES, Store};
use crate::telemetry::{Outcome, WorkerMetrics};
use crate::webhook::Thresholds;
pub use decision::{DecidedBy, Decision, Judged, Status};
pub use fallback::{Fallback, Fallen};
use memo::Memo;
pub use record::{Recorded, Recorder, replay};

/// Decides the checks of one worker.
pub struct Engine {
    parts: Parts,
    memo: Option<Memo>,
}

/// What an engine is made from.
pub struct Parts {
    /// The catalog in use.
    pub live: Arc<Live>,
    /// Who clients are.
    pub directory: Arc<Directory>,
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
    Judge(Known, Charges),
    /// No store can change this.
    Decided(Decision),
}

/// What the answer tells besides the limits.
struct Known {
    key: Option<Arc<ApiKey>>,
    plan: Option<Arc<str>>,
    label: Option<Arc<str>>,
    on_store_failure: OnStoreFailure,
}

impl Engine {
    /// An engine that remembers nothing yet. In memory a refusal is no dearer than its memo.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let workers = parts.denial_memo.filter(|_| matches!(parts.store, Store::Redis(_)));
        Self { memo: workers.map(Memo::new), parts }
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
        client: Option<Client<'_>>,
        ask: &Ask<'_>,
    ) -> Result<Decision, Refusal> {
        let began = Instant::now();
        let key = self.identify(client, began).await?;
        let (known, charges) = match self.prepare(key, ask)? {
            Prepared::Judge(known, charges) => (known, charges),
            Prepared::Decided(decision) => {
                self.parts.metrics.took(began.elapsed());
                return Ok(decision);
            }
        };
        let in_flight = self.parts.metrics.begin(1);
        let answer = self.parts.store.judge(&charges, began + self.parts.deadline).await;
        drop(in_flight);
        let decision = self.conclude(known, &charges, answer);
        self.parts.metrics.took(began.elapsed());
        Ok(decision)
    }

    /// Decides many checks, each on its own; they reach the store together.
    ///
    /// What could not even be read as a check keeps its error and its place.
    pub async fn check_all<'a, E: From<Refusal>>(
        &self,
        asks: impl ExactSizeIterator<Item = Result<(Option<Client<'a>>, Ask<'a>), E>>,
    ) -> Vec<Result<Decision, E>> {
        let began = Instant::now();
        let asks: Vec<_> = asks.collect();
        let clients = asks.iter().map(|ask| ask.as_ref().ok().and_then(|(client, _)| *client));
        let keys = join_all(clients.map(|client| self.identify(client, began))).await;
        let mut results = Vec::with_capacity(asks.len());
        let (mut waiting, mut checks) = (Vec::new(), Vec::new());
        for (ask, key) in asks.into_iter().zip(keys) {
            let prepared = ask.and_then(|(_, ask)| Ok(self.prepare(key?, &ask)?));
            results.push(match prepared {
                Err(error) => Some(Err(error)),
                Ok(Prepared::Decided(decision)) => Some(Ok(decision)),
                Ok(Prepared::Judge(known, charges)) => {
                    waiting.push((results.len(), known));
                    checks.push(charges);
                    None
                }
            });
        }
        let in_flight = self.parts.metrics.begin(checks.len());
        let answers = self.parts.store.judge_all(&checks, began + self.parts.deadline).await;
        drop(in_flight);
        for (((place, known), charges), answer) in waiting.into_iter().zip(&checks).zip(answers) {
            results[place] = Some(Ok(self.conclude(known, charges, answer)));
        }
        let each = began.elapsed();
        for _ in &results {
            self.parts.metrics.took(each);
        }
        results.into_iter().flatten().collect()
    }

    fn prepare(&self, key: Option<Arc<ApiKey>>, ask: &Ask<'_>) -> Result<Prepared, Refusal> {
        let catalog = self.parts.live.catalog();
        let met = catalog.meet(ask, key.as_ref(), self.parts.store.now());
        let Met { charges, plan, label, on_store_failure } =
            met.map_err(|refusal| self.because(refusal))?;
        if charges.len() > MAX_CHARGES {
            let detail =
                format!("these are {} limits, and one check can have {MAX_CHARGES}", charges.len());
            return Err(Refusal::Invalid { field: "policies".into(), detail });
        }
        if let Some((one, other)) = self.parts.store.unjudgeable(&charges) {
            return Err(Refusal::apart(one, other));
        }
        let known = Known { key, plan, label, on_store_failure };
        let hopeless = charges.iter().find(|charge| charge.never_fits() && !charge.limit.shadow());
        if let Some(charge) = hopeless {
            self.count(&known, Some(charge.limit.label()), Outcome::TooLarge);
            let violated = Arc::clone(charge.limit.name());
            let by = DecidedBy::store(&self.parts.store);
            return Ok(Prepared::Decided(Decision::too_large(violated, known.key, known.plan, by)));
        }
        if let Some(mut decision) = self.memo.as_ref().and_then(|memo| memo.refuse(&charges)) {
            self.count(&known, decision.violation().map(|limit| limit.label()), Outcome::Refused);
            decision.tell_of(known.key, known.plan);
            return Ok(Prepared::Decided(decision));
        }
        Ok(Prepared::Judge(known, charges))
    }

    fn conclude(&self, known: Known, charges: &Charges, answer: Result<Answer, Error>) -> Decision {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.fall_back(known, charges, &error),
        };
        if let (Some(thresholds), Some(key)) = (&self.parts.thresholds, &known.key) {
            thresholds.look(key, charges, &answer.verdict);
        }
        let mut decision = self.verdict(charges, &answer);
        for judged in
            decision.limits.iter().filter(|judged| judged.limit.shadow() && !judged.standing.fits)
        {
            self.count(&known, Some(judged.limit.label()), Outcome::ShadowRefused);
        }
        match decision.violation() {
            None => self.count(&known, None, Outcome::Allowed),
            Some(limit) => self.count(&known, Some(limit.label()), Outcome::Refused),
        }
        decision.tell_of(known.key, known.plan);
        decision
    }

    /// What the store's answer means; it is recorded, and remembered where it refuses.
    fn verdict(&self, charges: &Charges, answer: &Answer) -> Decision {
        if let Some(recorder) = &self.parts.recorder {
            recorder.record(charges, answer);
        }
        if let (Some(memo), false) = (&self.memo, answer.verdict.allowed) {
            memo.remember(charges, &answer.verdict);
        }
        let by = if answer.leased { DecidedBy::Lease } else { DecidedBy::store(&self.parts.store) };
        Decision::from_verdict(charges, &answer.verdict, by)
    }

    fn fallen(&self, charges: &Charges, policy: OnStoreFailure, error: &Error) -> Fallen {
        tracing::debug!(kind = error.kind(), %error, "a check is decided without the store");
        self.parts.fallback.decide(charges, policy)
    }

    fn fall_back(&self, known: Known, charges: &Charges, error: &Error) -> Decision {
        let fallen = self.fallen(charges, known.on_store_failure, error);
        self.count(&known, fallen.limit.as_ref(), fallen.outcome);
        let mut decision = fallen.decision;
        decision.tell_of(known.key, known.plan);
        decision
    }

    fn count(&self, known: &Known, limit: Option<&Arc<str>>, outcome: Outcome) {
        // Always there: nobody is judged without a plan or a policy.
        if let Some(label) = &known.label {
            self.parts.metrics.decided(label, limit, outcome);
        }
    }
}

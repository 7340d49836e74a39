//! Observers of decisions: the one place where work that follows a decision is attached.
//!
//! Metrics, the record, the denial memo and webhooks are observers. An observer cannot change a
//! decision, and a check waits for it: slow work belongs in a queue of the observer's own.

use std::sync::Arc;

use super::adjust::ReservationStatus;
use super::decision::Decision;
use crate::catalog::{ApiKey, RequestView};
use crate::limit::{Adjustment, Charge, Charges, NewReservation};
use crate::reservation::ReservedCheck;
use crate::store::{AdjustedReservation, CheckContext, StoreVerdict};
use crate::telemetry::DecisionOutcome;

/// A check that has just been decided.
pub struct DecidedCheck<'c> {
    /// The request's id and trace; empty unless something observes them.
    pub context: &'c CheckContext,
    /// The charges of the check.
    pub charges: &'c Charges,
    /// The verdict of the store; `None` if the check was decided without the store.
    pub verdict: Option<&'c StoreVerdict>,
    /// The decision, with the API key and its plan.
    pub decision: &'c Decision,
    /// The outcome, as metrics count it.
    pub outcome: DecisionOutcome,
    /// The metrics label of the plan or policies; `None` for a request of Envoy's, whose
    /// descriptors are counted one by one.
    pub label: Option<&'c Arc<str>>,
    /// The metrics label of the limit that refuses.
    pub refusing: Option<&'c Arc<str>>,
    /// The request; `None` for one of Envoy's.
    pub request: Option<RequestView<'c>>,
    /// The reservation that the store judged with the check; `None` if it requested none, or if an
    /// earlier one has opened it.
    pub reservation: Option<&'c NewReservation>,
}

impl DecidedCheck<'_> {
    /// The charge of the limit that refuses.
    pub(super) fn refusing_charge(&self) -> Option<&Charge> {
        let label = self.refusing?;
        let is_same = |other: &Arc<str>| Arc::ptr_eq(other, label);
        // The limit of new keys stands behind the one that is charged.
        self.charges.iter().find(|charge| {
            let new = charge.limit.new_subjects();
            is_same(charge.limit.label()) || new.is_some_and(|new| is_same(new.label()))
        })
    }
}

/// A reservation whose charges the store has just adjusted.
pub struct AdjustedCheck<'c> {
    /// The client's API key, if it still exists.
    pub key: Option<&'c Arc<ApiKey>>,
    /// The metrics label of the plan or policy; `None` if it no longer exists.
    pub label: Option<&'c Arc<str>>,
    /// The check that opened the reservation.
    pub reserved: &'c ReservedCheck,
    /// The change that was requested.
    pub adjustment: &'c Adjustment,
    /// The charges before and the counters after it.
    pub adjusted: &'c AdjustedReservation,
    /// The limits after it.
    pub status: &'c ReservationStatus,
}

/// Receives every decision of an engine.
pub trait DecisionObserver: Send + Sync {
    /// Called once for each check, before the response is made.
    fn on_decision(&self, check: &DecidedCheck<'_>);

    /// Called once for each reservation that the store has adjusted, before the response is made.
    fn on_adjustment(&self, _check: &AdjustedCheck<'_>) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use axum::http::HeaderValue;

    use super::*;
    use crate::catalog::{CheckError, CheckRequest, Cost, CounterPlacement, PolicyKey};
    use crate::control::{KeyDirectory, LiveCatalog};
    use crate::engine::{Engine, EngineParts, Fallback, MissedEvents, Tail, TailFilter};
    use crate::store::{EmbeddedRegistry, MemoryStore, Registry, Store};
    use crate::telemetry::{Metrics, WorkerMetrics};
    use crate::time::SystemClock;
    use crate::transport::{CallerIds, X_REQUEST_ID};

    const CATALOG: &str =
        "{version: 1, policies: [{name: login, throttle: {rate: 1/h, burst: 2}}]}";

    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);

    impl DecisionObserver for Seen {
        fn on_decision(&self, check: &DecidedCheck<'_>) {
            let by = if check.verdict.is_some() { "store" } else { "node" };
            let refusing = check.refusing.map_or("-", |limit| limit);
            let label = check.label.map_or("-", |label| label);
            let seen = format!("{} {by} {label} {refusing}", check.outcome.as_str());
            self.0.lock().unwrap().push(seen);
        }
    }

    fn engine(folder: &std::path::Path, observer: Arc<Seen>, tail: Arc<Tail>) -> Engine {
        let path = folder.join("catalog.yaml");
        std::fs::write(&path, CATALOG).unwrap();
        let metrics = Arc::new(Metrics::new());
        let live = LiveCatalog::load(Some(path), CounterPlacement::Together, Arc::clone(&metrics))
            .unwrap();
        let registry = Registry::Embedded(Arc::new(EmbeddedRegistry::in_memory()));
        let memory = || MemoryStore::new(Arc::new(SystemClock));
        Engine::new(EngineParts {
            live: Arc::new(live),
            directory: Arc::new(KeyDirectory::new(registry)),
            store: Store::Memory(memory()),
            fallback: Arc::new(Fallback::new(memory(), None)),
            metrics: WorkerMetrics::new(&metrics),
            observers: vec![observer],
            tail,
            tracer: None,
            deadline: Duration::from_secs(1),
            denial_memo: false,
            reservations: Arc::default(),
            known_subjects: Arc::default(),
        })
    }

    fn request(cost: u64) -> CheckRequest<'static> {
        let policy = PolicyKey { policy: "login", key: "a", index: None };
        CheckRequest {
            api: None,
            stage: None,
            method: None,
            path: None,
            policies: [policy].into_iter().collect(),
            cost: Cost::Requests(cost),
            after_the_fact: false,
            model: None,
            usage: None,
        }
    }

    #[tokio::test]
    async fn an_observer_sees_each_decision_once_and_in_order() {
        let (folder, seen) = (tempfile::tempdir().unwrap(), Arc::new(Seen::default()));
        let engine = engine(folder.path(), Arc::clone(&seen), Arc::default());
        engine.check(None, &request(3), &CheckContext::NONE).await.unwrap();
        let batch = [Ok((None, request(2))), Err(CheckError::NotReady), Ok((None, request(1)))];
        let results: Vec<Result<_, CheckError>> =
            engine.check_all(batch.into_iter(), &CheckContext::NONE).await.unwrap();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
        let expected = [
            "too_large node policy:login policy:login/throttle",
            "allowed store policy:login -",
            "refused store policy:login policy:login/throttle",
        ];
        assert_eq!(*seen.0.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn a_watched_request_has_a_context_only_if_its_caller_gave_it_an_id() {
        let (folder, tail) = (tempfile::tempdir().unwrap(), Arc::<Tail>::default());
        let engine = engine(folder.path(), Arc::default(), Arc::clone(&tail));
        let context = |id: Option<&'static str>| {
            let headers = id.map(|id| (X_REQUEST_ID, HeaderValue::from_static(id)));
            let headers = headers.into_iter().collect();
            engine.request_context("check", || CallerIds::of(&headers))
        };
        assert!(context(Some("a7")).is_empty(), "nobody reads it");
        let _reader = tail.subscribe(TailFilter::default(), 1).unwrap();
        assert!(context(None).is_empty(), "a request without an id allocates nothing");
        assert_eq!(context(Some("a7")).request_id().unwrap().as_ref(), "a7");
    }

    #[tokio::test]
    async fn a_slow_reader_of_the_tail_delays_no_check_and_is_told_what_it_missed() {
        let (folder, tail) = (tempfile::tempdir().unwrap(), Arc::<Tail>::default());
        let engine = engine(folder.path(), Arc::default(), Arc::clone(&tail));
        assert!(!tail.is_watched());
        let mut reader = tail.subscribe(TailFilter::default(), 1_000_000).unwrap();
        for _ in 0..402 {
            engine.check(None, &request(1), &CheckContext::NONE).await.unwrap();
        }
        assert_eq!(reader.read().await.len(), 256);
        assert_eq!(reader.take_missed(), MissedEvents { sampled_out: 0, dropped: 144 });
        engine.check(None, &request(1), &CheckContext::NONE).await.unwrap();
        assert_eq!(reader.read().await.len(), 1);
        drop(reader);
        assert!(!tail.is_watched());
    }
}

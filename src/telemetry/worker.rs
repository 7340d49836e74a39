//! The metrics of one worker on the hot path.
//!
//! If two cores increment one counter, its cache line moves between them with each request. So each
//! worker has counters of its own, which are added up when the metrics are rendered.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use prometheus::local::{LocalHistogram, LocalIntCounter};

use super::metrics::Metrics;
use super::outcomes::{DecidedBy, DecisionOutcome};
use super::reservations::ReservationOutcome;

/// The most cached counters. More than this belong to old catalogs, so the cache is cleared.
const MAX_CACHED_COUNTERS: usize = 4_096;

/// The metrics of one worker, aligned so that it shares no cache line with another worker's.
#[repr(align(128))]
pub struct WorkerMetrics {
    in_flight: AtomicI64,
    counts: Mutex<WorkerCounts>,
}

/// The checks in flight; ends them when dropped.
pub struct InFlightGuard<'w> {
    gauge: &'w AtomicI64,
    checks: i64,
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.gauge.fetch_sub(self.checks, Ordering::Relaxed);
    }
}

struct WorkerCounts {
    metrics: Arc<Metrics>,
    check_duration: LocalHistogram,
    decisions: HashMap<(usize, usize, DecisionOutcome), DecisionCounter>,
    /// By the number of the place.
    decided_by: [LocalIntCounter; DecidedBy::ALL.len()],
    responses: HashMap<(&'static str, u16), LocalIntCounter>,
}

/// A counter and its labels. Their addresses are its key in the cache, so the labels are kept
/// alive.
struct DecisionCounter {
    counter: LocalIntCounter,
    _labels: (Arc<str>, Option<Arc<str>>),
}

impl WorkerMetrics {
    /// Counters that are added to `metrics`.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>) -> Arc<Self> {
        let counts = WorkerCounts {
            check_duration: metrics.check_duration.local(),
            decided_by: DecidedBy::ALL
                .map(|place| metrics.decided_by.with_label_values(&[place.as_str()]).local()),
            metrics: Arc::clone(metrics),
            decisions: HashMap::default(),
            responses: HashMap::default(),
        };
        let worker = Arc::new(Self { in_flight: AtomicI64::new(0), counts: Mutex::new(counts) });
        metrics.register_worker(&worker);
        worker
    }

    /// Counts a decision, and the place where a check was decided.
    pub fn record_decision(
        &self,
        plan: &Arc<str>,
        limit: Option<&Arc<str>>,
        outcome: DecisionOutcome,
        place: Option<DecidedBy>,
    ) {
        let address = |label: &Arc<str>| Arc::as_ptr(label).addr();
        let key = (address(plan), limit.map_or(0, address), outcome);
        let mut counts = self.lock();
        if let Some(place) = place {
            counts.decided_by[place as usize].inc();
        }
        if let Some(cached) = counts.decisions.get(&key) {
            cached.counter.inc();
            return;
        }
        if counts.decisions.len() >= MAX_CACHED_COUNTERS {
            counts.decisions.values().for_each(|cached| cached.counter.flush());
            counts.decisions.clear();
        }
        let labels = [&**plan, limit.map_or("", |limit| limit), outcome.as_str()];
        let counter = counts.metrics.decisions.with_label_values(&labels).local();
        counter.inc();
        let labels = (Arc::clone(plan), limit.cloned());
        counts.decisions.insert(key, DecisionCounter { counter, _labels: labels });
    }

    /// Records the debt of a limit, in its units, after a charge that was made without room.
    pub fn record_debt(&self, plan: &str, limit: &str, units: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a number of units for a histogram")]
        self.lock().metrics.debt_units.with_label_values(&[plan, limit]).observe(units as f64);
    }

    /// Counts an outcome of a reservation; `plan` is `None` if it no longer exists.
    pub fn record_reservation(&self, plan: Option<&Arc<str>>, outcome: ReservationOutcome) {
        let plan = plan.map_or("", |plan| plan);
        self.lock().metrics.reservations.record_outcome(plan, outcome);
    }

    /// Counts units that were reserved under a limit.
    pub fn record_reserved(&self, plan: &str, limit: &str, units: u64) {
        self.lock().metrics.reservations.record_reserved(plan, limit, units);
    }

    /// Counts slots of a concurrency limit whose time was over before they were given back. With 0,
    /// the metric begins to exist.
    pub fn record_expired_slots(&self, plan: &str, limit: &str, slots: u64) {
        self.lock().metrics.reservations.record_expired_slots(plan, limit, slots);
    }

    /// Counts the units that a settled charge of a limit came to, where `reserved` were expected.
    pub fn record_used(&self, plan: &str, limit: &str, reserved: u64, used: u64) {
        self.lock().metrics.reservations.record_used(plan, limit, reserved, used);
    }

    /// Counts a check with a new subject that the store was too full for.
    pub fn record_full_store(&self) {
        self.lock().metrics.record_store_error("full");
    }

    /// Counts an HTTP response.
    pub fn record_response(&self, endpoint: &'static str, status: u16) {
        let mut counts = self.lock();
        let WorkerCounts { metrics, responses, .. } = &mut *counts;
        let counter = responses.entry((endpoint, status)).or_insert_with(|| {
            metrics.responses.with_label_values(&[endpoint, &status.to_string()]).local()
        });
        counter.inc();
    }

    /// Records the duration of a check.
    pub fn record_duration(&self, time: Duration) {
        self.lock().check_duration.observe(time.as_secs_f64());
    }

    /// Begins `checks` checks. They end when the guard is dropped, even if their connection is
    /// gone.
    #[must_use]
    pub fn start_checks(&self, checks: usize) -> InFlightGuard<'_> {
        let checks = i64::try_from(checks).unwrap_or(i64::MAX);
        self.in_flight.fetch_add(checks, Ordering::Relaxed);
        InFlightGuard { gauge: &self.in_flight, checks }
    }

    /// Adds the counts to the node's metrics, and returns the number of checks in flight.
    pub(super) fn flush(&self) -> i64 {
        let counts = self.lock();
        counts.check_duration.flush();
        counts.decisions.values().for_each(|cached| cached.counter.flush());
        counts.decided_by.iter().for_each(LocalIntCounter::flush);
        counts.responses.values().for_each(LocalIntCounter::flush);
        self.in_flight.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, WorkerCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

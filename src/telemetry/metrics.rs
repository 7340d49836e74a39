//! Every metric of the service in one struct. There is no global registry.
//!
//! The documentation of a metric is its help text. Names and labels are a public interface.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, TextEncoder,
};

use tokio::runtime::{Runtime, RuntimeMetrics};

use super::WorkerMetrics;
use super::outcomes::ConnectionEnd;
use super::register::{counter_vec, gauge_vec, histogram, histogram_vec, opts, register};
use super::reservations::ReservationMetrics;
use super::trace_metrics::TraceMetrics;
use super::webhooks::WebhookMetrics;

/// The upper bounds of the buckets of response times, in seconds: from 50 µs, the time of a decision
/// in memory, to beyond any sensible deadline.
pub const LATENCY_BUCKETS: [f64; 14] = [
    50e-6, 100e-6, 200e-6, 300e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 250e-3,
    1.0,
];
const BATCH_BUCKETS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Debts are in the units of their limit, from a few requests to the tokens of many answers.
const DEBT_BUCKETS: [f64; 9] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8];

/// The kinds of store errors, which are label values that exist from the start.
pub const STORE_ERROR_KINDS: [&str; 9] = [
    "unreachable",
    "disk",
    "timeout",
    "overloaded",
    "full",
    "refused",
    "script",
    "bad_row",
    "bad_reply",
];

/// The metrics of one node.
pub struct Metrics {
    registry: Registry,
    workers: Mutex<Vec<Weak<WorkerMetrics>>>,
    runtimes: Mutex<Vec<RuntimeMetrics>>,
    tasks: IntGauge,
    /// `tollgate_decisions_total{plan,limit,outcome}`
    pub decisions: IntCounterVec,
    /// `tollgate_decided_by_total{decided_by}`
    pub decided_by: IntCounterVec,
    /// `tollgate_debt_units{plan,limit}`
    pub debt_units: HistogramVec,
    /// `tollgate_responses_total{endpoint,status}`
    pub responses: IntCounterVec,
    /// `tollgate_check_duration_seconds`
    pub check_duration: Histogram,
    /// `tollgate_store_duration_seconds`
    pub store_duration: Histogram,
    /// `tollgate_store_batch_checks`
    pub store_batch: Histogram,
    /// `tollgate_store_calls_total{by}`
    pub store_calls: IntCounterVec,
    /// `tollgate_store_errors_total{kind}`
    pub store_errors: IntCounterVec,
    /// `tollgate_envoy_unknown_domains_total`
    pub unknown_domains: IntCounter,
    /// `tollgate_breaker_open`
    pub breaker_open: IntGauge,
    /// `tollgate_breaker_opened_total`
    pub breaker_opened: IntCounter,
    /// `tollgate_live_nodes`
    pub live_nodes: IntGauge,
    /// `tollgate_redis_memory_used_ratio`
    pub redis_memory_used: Gauge,
    /// `tollgate_memory_rows`
    pub memory_rows: IntGauge,
    /// `tollgate_max_memory_rows`
    pub max_memory_rows: IntGauge,
    /// `tollgate_catalog_reloads_total{result}`
    pub reloads: IntCounterVec,
    /// `tollgate_certificate_reloads_total{result}`
    pub certificate_reloads: IntCounterVec,
    /// `tollgate_tls_handshakes_failed_total`
    pub handshakes_failed: IntCounter,
    /// `tollgate_catalog_info{revision}`
    pub catalog_info: IntGaugeVec,
    /// `tollgate_catalog_loaded_timestamp_seconds`
    pub catalog_loaded: Gauge,
    /// `tollgate_checks_in_flight`
    pub in_flight: IntGauge,
    /// `tollgate_connections`
    pub connections: IntGauge,
    connections_closed: IntCounterVec,
    /// The metrics of traces.
    pub traces: TraceMetrics,
    /// The metrics of webhooks.
    pub webhooks: WebhookMetrics,
    /// The metrics of reservations.
    pub reservations: ReservationMetrics,
}

impl Metrics {
    /// Metrics that are all zero.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table: one entry per metric")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let build_info =
            gauge_vec(r, "build_info", "The version that runs; always 1.", &["version"]);
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            decisions: counter_vec(
                r,
                "decisions_total",
                "Checks decided, by plan (or policy), the limit that refused, and outcome; for domains of Envoy, the limit of each descriptor.",
                &["plan", "limit", "outcome"],
            ),
            decided_by: counter_vec(
                r,
                "decided_by_total",
                "Checks decided, by the place: the store, a lease, the denial memo, or the node alone. Requests of Envoy are left out.",
                &["decided_by"],
            ),
            debt_units: histogram_vec(
                r,
                "debt_units",
                "Units over a limit after a charge that was made without room, by plan (or policy) and limit.",
                &DEBT_BUCKETS,
                &["plan", "limit"],
            ),
            responses: counter_vec(
                r,
                "responses_total",
                "Responses, by endpoint and HTTP status; for gRPC by its own code.",
                &["endpoint", "status"],
            ),
            check_duration: histogram(
                r,
                "check_duration_seconds",
                "Time from a request that has been read to its decision.",
                &LATENCY_BUCKETS,
            ),
            store_duration: histogram(
                r,
                "store_duration_seconds",
                "Time of one call to Redis, which may carry many checks.",
                &LATENCY_BUCKETS,
            ),
            store_batch: histogram(
                r,
                "store_batch_checks",
                "Checks carried by one call to Redis.",
                &BATCH_BUCKETS,
            ),
            store_calls: counter_vec(
                r,
                "store_calls_total",
                "Calls to Redis that judged checks, by the module or by the script.",
                &["by"],
            ),
            store_errors: counter_vec(
                r,
                "store_errors_total",
                "Calls to Redis that failed, by kind.",
                &["kind"],
            ),
            unknown_domains: register(
                r,
                IntCounter::with_opts(opts(
                    "envoy_unknown_domains_total",
                    "Requests of Envoy for a domain that no file declares; they are allowed.",
                )),
            ),
            breaker_open: register(
                r,
                IntGauge::with_opts(opts(
                    "breaker_open",
                    "Connections of this node to Redis whose circuit breaker is open; 0 is healthy.",
                )),
            ),
            breaker_opened: register(
                r,
                IntCounter::with_opts(opts(
                    "breaker_opened_total",
                    "Number of times that the circuit breaker of a connection to Redis opened.",
                )),
            ),
            live_nodes: register(
                r,
                IntGauge::with_opts(opts(
                    "live_nodes",
                    "Nodes that share this store, by heartbeat; the last value read.",
                )),
            ),
            redis_memory_used: register(
                r,
                Gauge::with_opts(opts(
                    "redis_memory_used_ratio",
                    "Used part of Redis' maxmemory, from 0 to 1; of several primaries the largest, without a maxmemory 0.",
                )),
            ),
            memory_rows: register(
                r,
                IntGauge::with_opts(opts("memory_rows", "Counters kept in this node's memory.")),
            ),
            max_memory_rows: register(
                r,
                IntGauge::with_opts(opts(
                    "max_memory_rows",
                    "Counters in this node's memory from which on new subjects are refused.",
                )),
            ),
            reloads: counter_vec(
                r,
                "catalog_reloads_total",
                "Catalog reloads, by result.",
                &["result"],
            ),
            certificate_reloads: counter_vec(
                r,
                "certificate_reloads_total",
                "Reloads of a listener's certificates, by result.",
                &["result"],
            ),
            handshakes_failed: register(
                r,
                IntCounter::with_opts(opts(
                    "tls_handshakes_failed_total",
                    "Connections that ended before they were encrypted.",
                )),
            ),
            catalog_info: gauge_vec(
                r,
                "catalog_info",
                "The catalog's revision in use; always 1.",
                &["revision"],
            ),
            catalog_loaded: register(
                r,
                Gauge::with_opts(opts(
                    "catalog_loaded_timestamp_seconds",
                    "When the catalog in use was loaded.",
                )),
            ),
            in_flight: register(
                r,
                IntGauge::with_opts(opts("checks_in_flight", "Checks being decided.")),
            ),
            connections: register(
                r,
                IntGauge::with_opts(opts("connections", "Open HTTP connections.")),
            ),
            connections_closed: counter_vec(
                r,
                "connections_closed_total",
                "Connections that this node closed on slow or idle clients, by reason.",
                &["reason"],
            ),
            tasks: register(
                r,
                IntGauge::with_opts(opts(
                    "tasks",
                    "Asynchronous tasks: connections, their requests, and those of the node itself.",
                )),
            ),
            traces: TraceMetrics::new(r),
            webhooks: WebhookMetrics::new(r),
            reservations: ReservationMetrics::new(r),
            registry,
            workers: Mutex::default(),
            runtimes: Mutex::default(),
        };
        for by in ["module", "script"] {
            metrics.store_calls.with_label_values(&[by]);
        }
        for kind in STORE_ERROR_KINDS {
            metrics.store_errors.with_label_values(&[kind]);
        }
        for end in ConnectionEnd::ALL {
            metrics.connections_closed.with_label_values(&[end.as_str()]);
        }
        for result in ["ok", "failed"] {
            metrics.reloads.with_label_values(&[result]);
            metrics.certificate_reloads.with_label_values(&[result]);
        }
        metrics
    }

    /// Registers a worker, whose counts are added up here.
    pub(super) fn register_worker(&self, worker: &Arc<WorkerMetrics>) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.push(Arc::downgrade(worker));
    }

    /// Registers a runtime, whose tasks are counted in each response of `/metrics`.
    pub fn register_runtime(&self, runtime: &Runtime) {
        let mut runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        runtimes.push(runtime.metrics());
    }

    /// Counts a failed request to the store.
    pub fn record_store_error(&self, kind: &'static str) {
        self.store_errors.with_label_values(&[kind]).inc();
    }

    /// Counts a connection that this node closed on a slow or idle client.
    pub fn record_connection_end(&self, end: ConnectionEnd) {
        self.connections_closed.with_label_values(&[end.as_str()]).inc();
    }

    /// Adds up the counts of the workers.
    pub(super) fn collect_workers(&self) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        self.in_flight
            .set(workers.iter().filter_map(Weak::upgrade).map(|worker| worker.flush()).sum());
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        self.collect_workers();
        let runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks: usize = runtimes.iter().map(RuntimeMetrics::num_alive_tasks).sum();
        drop(runtimes);
        self.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
        let mut text = Vec::new();
        let written = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        debug_assert!(written.is_ok(), "{written:?}");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_the_services_prefix() {
        let text = String::from_utf8(Metrics::new().render()).unwrap();
        assert!(text.contains("tollgate_build_info{version="));
        assert!(text.lines().all(|line| line.starts_with('#') || line.starts_with("tollgate_")));
    }
}

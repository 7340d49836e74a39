//! A sample of the metrics as numbers, for the activity that the admin API shows.
//!
//! Differences between samples, and so rates, are computed by `engine`.

use std::collections::BTreeMap;

use prometheus::Histogram;
use prometheus::core::Collector as _;

use super::metrics::Metrics;
use super::webhooks::DeliveryOutcome;

/// The counts since the node started, and the state of the node.
#[derive(Clone, Debug, Default)]
pub struct MetricsSample {
    /// Checks by plan (or policy) and outcome, of all limits.
    pub decisions: BTreeMap<(String, String), u64>,
    /// Checks by duration: one count for each of [`super::LATENCY_BUCKETS`], and one for longer ones.
    pub check_durations: Vec<u64>,
    /// Calls to Redis by duration, as `check_durations`.
    pub store_durations: Vec<u64>,
    /// Calls to Redis that failed.
    pub store_errors: u64,
    /// Webhooks delivered, attempts that failed, and webhooks given up.
    pub deliveries: [u64; 3],
    /// Webhooks of all nodes that wait to be delivered, as this node last saw.
    pub webhooks_waiting: i64,
    /// Checks being decided.
    pub in_flight: i64,
    /// Open HTTP connections.
    pub connections: i64,
    /// Connections to Redis whose circuit breaker is open.
    pub open_breakers: i64,
    /// Counters kept in this node's memory.
    pub memory_rows: i64,
    /// Used part of Redis' maxmemory, from 0 to 1; 0 without one.
    pub redis_memory_used: f64,
    /// The revision of the catalog in use.
    pub catalog: String,
}

impl Metrics {
    /// The metrics at this moment.
    #[must_use]
    pub fn sample(&self) -> MetricsSample {
        self.collect_workers();
        let mut decisions = BTreeMap::new();
        for family in self.decisions.collect() {
            for metric in family.get_metric() {
                let label = |name: &str| {
                    let found = metric.get_label().iter().find(|label| label.name() == name);
                    found.map_or_else(String::new, |label| label.value().to_owned())
                };
                let count = whole(metric.get_counter().get_value());
                *decisions.entry((label("plan"), label("outcome"))).or_default() += count;
            }
        }
        let errors = self.store_errors.collect();
        let errors = errors.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        let deliveries =
            [DeliveryOutcome::Delivered, DeliveryOutcome::Failed, DeliveryOutcome::GivenUp];
        MetricsSample {
            decisions,
            check_durations: bucket_counts(&self.check_duration),
            store_durations: bucket_counts(&self.store_duration),
            store_errors: errors.map(|metric| whole(metric.get_counter().get_value())).sum(),
            deliveries: deliveries.map(|outcome| self.webhooks.attempts(outcome)),
            webhooks_waiting: self.webhooks.waiting.get(),
            in_flight: self.in_flight.get(),
            connections: self.connections.get(),
            open_breakers: self.breaker_open.get(),
            memory_rows: self.memory_rows.get(),
            redis_memory_used: self.redis_memory_used.get(),
            catalog: self.catalog_revision(),
        }
    }

    /// The revision of the catalog in use; empty before there is one.
    fn catalog_revision(&self) -> String {
        let families = self.catalog_info.collect();
        let metrics = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        let mut labels = metrics.flat_map(prometheus::proto::Metric::get_label);
        labels.next().map_or_else(String::new, |label| label.value().to_owned())
    }
}

/// The observations in each bucket of a histogram, and those above the last one.
fn bucket_counts(histogram: &Histogram) -> Vec<u64> {
    let families = histogram.collect();
    let metrics = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
    let Some(histogram) = metrics.map(prometheus::proto::Metric::get_histogram).next() else {
        return Vec::new();
    };
    let cumulative = histogram.get_bucket().iter().map(prometheus::proto::Bucket::cumulative_count);
    let mut before = 0;
    let count_in = |count: u64| count.saturating_sub(std::mem::replace(&mut before, count));
    cumulative.chain([histogram.get_sample_count()]).map(count_in).collect()
}

/// A count, which the metrics hold as a float.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters are whole and not negative"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_adds_up_the_limits_of_a_plan_and_divides_durations_by_bucket() {
        let metrics = Metrics::new();
        for (limit, outcome, count) in
            [("", "allowed", 3), ("basic/throttle", "refused", 2), ("basic/quota", "refused", 4)]
        {
            metrics.decisions.with_label_values(&["basic", limit, outcome]).inc_by(count);
        }
        for seconds in [40e-6, 150e-6, 150e-6, 7.0] {
            metrics.check_duration.observe(seconds);
        }
        metrics.record_store_error("timeout");
        metrics.catalog_info.with_label_values(&["abc"]).set(1);
        let sample = metrics.sample();
        let count = |outcome: &str| sample.decisions[&("basic".to_owned(), outcome.to_owned())];
        assert_eq!((count("allowed"), count("refused")), (3, 6));
        let durations = &sample.check_durations;
        assert_eq!(durations.len(), super::super::LATENCY_BUCKETS.len() + 1);
        assert_eq!((durations[0], durations[2], durations[14]), (1, 2, 1));
        assert_eq!((sample.store_errors, &*sample.catalog), (1, "abc"));
    }
}

//! The report of a node's activity: what nodes publish, and what the admin API shows.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::samples::{Samples, SlotCounts, SlotTotals};
use super::{DeliveryAttempt, NodeActivity};
use crate::telemetry::{LATENCY_BUCKETS, MetricsSample};

/// The most plans in a report: those with the most checks. The others are one row.
const MAX_PLANS: usize = 50;

/// A node's activity and state.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeReport {
    /// The host's name and the port of the HTTP listener.
    node: String,
    version: &'static str,
    /// In seconds since 1970, as is `at`.
    started: u64,
    at: u64,
    workers: usize,
    checks_in_flight: i64,
    connections: i64,
    /// The revision of the catalog in use.
    catalog: String,
    store: StoreState,
    minute: Minute,
    /// The end of the last slot of `history`, in seconds since 1970.
    history_end: u64,
    /// Checks by slot of five seconds: admitted, refused, and decided without the store.
    history: Vec<SlotTotals>,
    /// `None` if no receiver is configured.
    webhooks: Option<WebhookState>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StoreState {
    kind: &'static str,
    open_breakers: i64,
    /// Used part of Redis' maxmemory, from 0 to 1; 0 without one.
    redis_memory_used: f64,
    memory_rows: i64,
    max_memory_rows: usize,
}

/// The last minute, or the time since the start.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Minute {
    seconds: u64,
    plans: Vec<PlanRow>,
    /// The upper bounds of the buckets of durations, in seconds. A further bucket has longer ones.
    bounds: &'static [f64],
    check_durations: Vec<u64>,
    store_durations: Vec<u64>,
    store_errors: u64,
}

#[derive(Serialize)]
struct PlanRow {
    /// The plan, policy or stage as in metrics; `None` for all that have no row.
    plan: Option<String>,
    /// Checks by outcome, as in `tollgate_decisions_total`.
    outcomes: BTreeMap<String, u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookState {
    thresholds: Vec<u8>,
    waiting: i64,
    delivered: u64,
    failed: u64,
    given_up: u64,
    /// The newest attempts of this node, newest first.
    newest: Vec<DeliveryAttempt>,
}

impl NodeReport {
    pub(super) fn new(activity: &NodeActivity, now: &MetricsSample, samples: &Samples) -> Self {
        let (seconds, minute) = samples.minute();
        let (history_end, history) = samples.history();
        let [delivered, failed, given_up] = now.deliveries;
        let waiting = now.webhooks_waiting;
        Self {
            node: activity.node.clone(),
            version: env!("CARGO_PKG_VERSION"),
            started: activity.started,
            at: super::now_secs(),
            workers: activity.workers,
            checks_in_flight: now.in_flight,
            connections: now.connections,
            catalog: now.catalog.clone(),
            store: StoreState {
                kind: if activity.keeps_rows { "memory" } else { "redis" },
                open_breakers: now.open_breakers,
                redis_memory_used: now.redis_memory_used,
                memory_rows: now.memory_rows,
                max_memory_rows: activity.max_memory_rows,
            },
            minute: Minute::new(seconds, minute),
            history_end,
            history,
            webhooks: activity.webhook_thresholds.clone().map(|thresholds| WebhookState {
                thresholds,
                waiting,
                delivered,
                failed,
                given_up,
                newest: activity.deliveries.newest(),
            }),
        }
    }
}

impl Minute {
    fn new(seconds: u64, counts: SlotCounts) -> Self {
        Self {
            seconds,
            plans: plan_rows(counts.decisions),
            bounds: &LATENCY_BUCKETS,
            check_durations: counts.check_durations,
            store_durations: counts.store_durations,
            store_errors: counts.store_errors,
        }
    }
}

/// The counts by plan, the largest first, and those that have no row added up.
fn plan_rows(decisions: BTreeMap<(String, String), u64>) -> Vec<PlanRow> {
    let mut plans: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for ((plan, outcome), count) in decisions {
        plans.entry(plan).or_default().insert(outcome, count);
    }
    let mut rows: Vec<_> =
        plans.into_iter().map(|(plan, outcomes)| PlanRow { plan: Some(plan), outcomes }).collect();
    rows.sort_by_key(|row| Reverse(row.outcomes.values().sum::<u64>()));
    if rows.len() > MAX_PLANS {
        let mut others = PlanRow { plan: None, outcomes: BTreeMap::new() };
        for (outcome, count) in rows.split_off(MAX_PLANS).into_iter().flat_map(|row| row.outcomes) {
            *others.outcomes.entry(outcome).or_default() += count;
        }
        rows.push(others);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_plans_have_a_row_and_the_others_share_one() {
        let plan = |number: u64| {
            ((format!("plan-{number}"), "allowed".to_owned()), if number == 59 { 100 } else { 1 })
        };
        let rows = plan_rows((0..60).map(plan).collect());
        assert_eq!(rows.len(), MAX_PLANS + 1);
        assert_eq!(rows[0].plan.as_deref(), Some("plan-59"));
        let last = rows.last().unwrap();
        assert_eq!((&last.plan, last.outcomes["allowed"]), (&None, 10));
    }
}

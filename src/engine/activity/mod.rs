//! The activity of each node, for the admin API: rates of checks by plan and outcome, latencies, and
//! the state of its store.
//!
//! A node samples its metrics every five seconds and publishes a report for the other nodes. Keys
//! and methods are not known here: labels of metrics are plans and outcomes.

mod deliveries;
mod report;
mod samples;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

pub use self::deliveries::{DeliveryAttempt, DeliveryLog};
use self::report::NodeReport;
use self::samples::{SLOT_SECS, Samples};
use crate::settings::Settings;
use crate::store::{CounterStore, ReportKind, StoreError};
use crate::telemetry::Metrics;
use crate::time::{Clock as _, SystemClock};

/// The time after which a published report expires.
const PUBLISHED_FOR: Duration = Duration::from_secs(15);

/// The activity of this node.
pub struct NodeActivity {
    node: String,
    /// In seconds since 1970.
    started: u64,
    workers: usize,
    /// True if the node keeps the counters in its own memory.
    keeps_rows: bool,
    max_memory_rows: usize,
    /// `None` if no receiver is configured.
    webhook_thresholds: Option<Vec<u8>>,
    deliveries: DeliveryLog,
    metrics: Arc<Metrics>,
    samples: Mutex<Samples>,
}

/// The name of this node for people: that of its machine or pod, and the port of its checks.
#[must_use]
pub fn node_name(port: u16) -> String {
    let system = rustix::system::uname();
    format!("{}:{port}", system.nodename().to_string_lossy())
}

/// The system's time in seconds since 1970.
fn now_secs() -> u64 {
    SystemClock.now().get() / 1_000_000
}

impl NodeActivity {
    /// The activity from now on, by samples of `metrics`.
    #[must_use]
    pub fn new(settings: &Settings, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            node: node_name(settings.listen.port()),
            started: now_secs(),
            workers: settings.workers,
            keeps_rows: settings.store.is_memory(),
            max_memory_rows: settings.max_memory_rows,
            webhook_thresholds: settings.webhook.as_ref().map(|webhook| webhook.thresholds.clone()),
            samples: Mutex::new(Samples::new(metrics.sample())),
            deliveries: DeliveryLog::default(),
            metrics,
        })
    }

    /// The log of attempts to deliver webhooks, for those who make them.
    #[must_use]
    pub fn deliveries(&self) -> DeliveryLog {
        self.deliveries.clone()
    }

    /// Samples the metrics at each multiple of five seconds, and with Redis publishes the report.
    /// Never returns.
    pub async fn run(self: Arc<Self>, store: CounterStore) {
        loop {
            let now = SystemClock.now().get();
            let slot = SLOT_SECS * 1_000_000;
            tokio::time::sleep(Duration::from_micros(slot - now % slot)).await;
            self.samples().add(now_secs() / SLOT_SECS, self.metrics.sample());
            let CounterStore::Redis(redis) = &store else { continue };
            let Ok(text) = serde_json::to_vec(&self.report()) else { continue };
            let published = redis.publish_report(ReportKind::Activity, &text, PUBLISHED_FOR).await;
            if let Err(error) = published {
                tracing::debug!(%error, "the activity of this node is not published");
            }
        }
    }

    /// The reports of all nodes, this one's first.
    ///
    /// # Errors
    /// If Redis cannot be read: the report of this node is in [`NodeActivity::own_report`].
    pub async fn reports_of_nodes(&self, store: &CounterStore) -> Result<Vec<Value>, StoreError> {
        let mut reports = vec![self.own_report()];
        if let CounterStore::Redis(redis) = store {
            let others = redis.reports_of_others(ReportKind::Activity).await?;
            let others = others.iter().filter_map(|text| serde_json::from_slice(text).ok());
            let mut others: Vec<Value> = others.filter(Value::is_object).collect();
            others.sort_by(|one, other| one["node"].as_str().cmp(&other["node"].as_str()));
            reports.append(&mut others);
        }
        Ok(reports)
    }

    /// The report of this node.
    #[must_use]
    pub fn own_report(&self) -> Value {
        serde_json::to_value(self.report()).unwrap_or_default()
    }

    fn report(&self) -> NodeReport {
        let now = self.metrics.sample();
        NodeReport::new(self, &now, &self.samples())
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

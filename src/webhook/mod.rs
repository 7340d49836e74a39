//! Webhooks: one event to a receiver when the usage of a key reaches a threshold of its quota.
//!
//! [`Thresholds`] observes the decisions of all checks. Its events are recorded in the store's
//! outbox, and any node delivers them from there. The body of the receiver's response is not read.

mod dispatcher;
mod event;
mod endpoint;
mod thresholds;

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use dispatcher::Dispatcher;
use endpoint::WebhookEndpoint;
pub use thresholds::Thresholds;

use crate::engine::DeliveryLog;
use crate::settings::Webhook;
use crate::store::Outbox;
use crate::telemetry::Metrics;
use crate::tls;

/// Records and delivers events while the node runs.
pub struct Webhooks {
    thresholds: Arc<Thresholds>,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Webhooks {
    /// Starts both tasks on the current runtime.
    ///
    /// # Errors
    /// If the certificate authorities for an encrypted receiver cannot be loaded.
    pub fn start(
        settings: &Webhook,
        outbox: Outbox,
        metrics: Arc<Metrics>,
        log: DeliveryLog,
    ) -> Result<Self, tls::TlsError> {
        let endpoint = WebhookEndpoint::new(settings)?;
        let retry_after = settings.retry_after;
        let recorded = Notify::new();
        let dispatcher = Dispatcher { outbox, endpoint, retry_after, metrics, log, recorded };
        let dispatcher = Arc::new(dispatcher);
        let (thresholds, found) = Thresholds::new(settings.thresholds.clone());
        let (stop, shutdown) = watch::channel(false);
        let tasks = [
            tokio::spawn(Arc::clone(&dispatcher).record_events(found, shutdown.clone())),
            tokio::spawn(dispatcher.deliver(shutdown)),
        ];
        Ok(Self { thresholds: Arc::new(thresholds), stop, tasks })
    }

    /// The observer of decisions.
    #[must_use]
    pub fn thresholds(&self) -> Arc<Thresholds> {
        Arc::clone(&self.thresholds)
    }

    /// Records the remaining events and completes the attempts in progress. No check may be
    /// observed afterwards.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            let _panicked = task.await;
        }
    }
}

//! Webhooks: that a key has used so much of a quota, told once to a receiver, by whichever node.
//!
//! Checks are only looked at ([`Thresholds`]). What is found is noted in the store's outbox, and from
//! there any node delivers it. Who is told what else, and answers of receivers, are not known here.

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

use crate::settings::Webhook;
use crate::store::Outbox;
use crate::telemetry::Metrics;
use crate::tls;

/// What notes and delivers events while the node runs.
pub struct Webhooks {
    thresholds: Arc<Thresholds>,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Webhooks {
    /// Begins; it has to be within a runtime.
    ///
    /// # Errors
    /// Where there is nothing to know an encrypted receiver by.
    pub fn start(
        settings: &Webhook,
        outbox: Outbox,
        metrics: Arc<Metrics>,
    ) -> Result<Self, tls::TlsError> {
        let endpoint = WebhookEndpoint::new(settings)?;
        let retry_after = settings.retry_after;
        let dispatcher =
            Dispatcher { outbox, endpoint, retry_after, metrics, recorded: Notify::new() };
        let dispatcher = Arc::new(dispatcher);
        let (thresholds, found) = Thresholds::new(settings.thresholds.clone());
        let (stop, shutdown) = watch::channel(false);
        let tasks = [
            tokio::spawn(Arc::clone(&dispatcher).record_events(found, shutdown.clone())),
            tokio::spawn(dispatcher.deliver(shutdown)),
        ];
        Ok(Self { thresholds: Arc::new(thresholds), stop, tasks })
    }

    /// What looks at checks.
    #[must_use]
    pub fn thresholds(&self) -> Arc<Thresholds> {
        Arc::clone(&self.thresholds)
    }

    /// Notes what has been found, and ends what is being delivered; nobody may look at checks any
    /// more.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            let _panicked = task.await;
        }
    }
}

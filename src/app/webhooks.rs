//! Webhooks on the store's outbox, if a receiver is configured.

use std::sync::Arc;

use super::StartError;
use crate::engine::NodeActivity;
use crate::settings::Settings;
use crate::store::{CounterStore, DataDir, EmbeddedOutbox, Outbox};
use crate::telemetry::Metrics;
use crate::webhook::Webhooks;

/// Starts to record and deliver events, on the current runtime.
pub(super) fn start(
    settings: &Settings,
    data_dir: Option<&DataDir>,
    counter_store: &CounterStore,
    metrics: &Arc<Metrics>,
    activity: &NodeActivity,
) -> Result<Option<Webhooks>, StartError> {
    let Some(webhook) = &settings.webhook else { return Ok(None) };
    let outbox = match (counter_store, data_dir) {
        (CounterStore::Redis(redis), _) => Outbox::Redis(Arc::clone(redis)),
        (CounterStore::Memory(_), None) => Outbox::Embedded(Arc::new(EmbeddedOutbox::in_memory())),
        (CounterStore::Memory(_), Some(dir)) => {
            Outbox::Embedded(Arc::new(EmbeddedOutbox::open(dir).map_err(StartError::DataDir)?))
        }
    };
    let started = Webhooks::start(webhook, outbox, Arc::clone(metrics), activity.deliveries());
    started.map(Some).map_err(StartError::Webhooks)
}

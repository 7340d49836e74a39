//! Webhooks on the store's outbox, if a receiver is configured.

use std::sync::Arc;

use super::StartError;
use crate::settings::Settings;
use crate::store::{CounterStore, EmbeddedOutbox, Outbox};
use crate::telemetry::Metrics;
use crate::webhook::Webhooks;

/// Starts to record and deliver events, on the current runtime.
pub(super) fn start(
    settings: &Settings,
    counter_store: &CounterStore,
    metrics: &Arc<Metrics>,
) -> Result<Option<Webhooks>, StartError> {
    let Some(webhook) = &settings.webhook else { return Ok(None) };
    let outbox = match (counter_store, &settings.data_dir) {
        (CounterStore::Redis(redis), _) => Outbox::Redis(Arc::clone(redis)),
        (CounterStore::Memory(_), None) => Outbox::Embedded(Arc::new(EmbeddedOutbox::in_memory())),
        (CounterStore::Memory(_), Some(folder)) => Outbox::Embedded(Arc::new(
            EmbeddedOutbox::open(folder).map_err(|why| StartError::DataDir(folder.clone(), why))?,
        )),
    };
    let started = Webhooks::start(webhook, outbox, Arc::clone(metrics));
    started.map(Some).map_err(StartError::Webhooks)
}

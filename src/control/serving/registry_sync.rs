//! Keeps a node up to date with the registry: it polls the registry's revision a few times a
//! second.
//!
//! A poll cannot miss a change as a subscription can, since it compares revisions. After an outage
//! the first poll fetches all changes since the revision that the node has seen.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::key_directory::KeyDirectory;
use super::live_catalog::LiveCatalog;
use crate::control::model::{ControlError, EntryPath};
use crate::store::Registry;
use crate::watch::next_poll;

/// Keeps the live catalog and the key directory up to date with the registry.
pub struct RegistrySync {
    registry: Registry,
    live: Arc<LiveCatalog>,
    directory: Arc<KeyDirectory>,
    /// The revision that this node serves by; `None` before the first poll.
    seen_revision: Mutex<Option<u64>>,
}

impl RegistrySync {
    /// A sync that has not polled yet.
    #[must_use]
    pub fn new(registry: Registry, live: Arc<LiveCatalog>, directory: Arc<KeyDirectory>) -> Self {
        Self { registry, live, directory, seen_revision: Mutex::new(None) }
    }

    /// Polls the registry now. When this returns, the node serves by all changes until then.
    ///
    /// # Errors
    /// If the registry is unreachable; the node goes on with its state.
    pub async fn refresh(&self) -> Result<(), ControlError> {
        let mut seen = self.seen_revision.lock().await;
        let changes = self.registry.changes(seen.unwrap_or(0)).await?;
        if *seen == Some(changes.revision) {
            return Ok(());
        }
        if let Some(seen) = seen.filter(|seen| *seen > changes.revision) {
            tracing::error!(
                seen,
                now = changes.revision,
                "the registry has gone back: changes since then are lost, for example because Redis restarted without its data; declare them again (`tollgate apply`) or restore Redis"
            );
        }
        self.directory.advance_to(changes.revision);
        match &changes.paths {
            Some(paths) => paths.iter().for_each(|path| self.directory.invalidate(path)),
            None => self.directory.invalidate_all(),
        }
        let paths = changes.paths.as_deref().filter(|_| seen.is_some());
        let document = EntryPath::Document.to_string();
        if paths.is_none_or(|paths| paths.contains(&document)) {
            let text = self.registry.get(&document).await?;
            self.live.apply_document(text.as_deref());
        }
        *seen = Some(changes.revision);
        Ok(())
    }

    /// Polls the registry once, if it can be reached.
    pub async fn refresh_once(self: Arc<Self>) {
        if let Err(error) = self.refresh().await {
            tracing::debug!(%error, "the registry could not be polled for changes");
        }
    }

    /// Polls the registry five times a second. Never returns.
    pub async fn refresh_forever(self: Arc<Self>) {
        loop {
            next_poll().await;
            self.directory.refill_registry_permits();
            self.live.free_replaced();
            Arc::clone(&self).refresh_once().await;
        }
    }
}

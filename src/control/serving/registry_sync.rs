//! Every change reaches every node: each asks the registry for its revision, a few times a second.
//!
//! Asking cannot miss a change as listening can: what is compared are revisions. A node that was
//! cut off learns everything it missed with its next question.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::key_directory::KeyDirectory;
use super::live_catalog::LiveCatalog;
use crate::control::model::{ControlError, EntryPath};
use crate::store::Registry;

/// How often a node asks.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Keeps a node as new as the registry.
pub struct RegistrySync {
    registry: Registry,
    live: Arc<LiveCatalog>,
    directory: Arc<KeyDirectory>,
    /// The revision that this node serves by, once it has seen any.
    seen_revision: Mutex<Option<u64>>,
}

impl RegistrySync {
    /// Has seen nothing yet.
    #[must_use]
    pub fn new(registry: Registry, live: Arc<LiveCatalog>, directory: Arc<KeyDirectory>) -> Self {
        Self { registry, live, directory, seen_revision: Mutex::new(None) }
    }

    /// Looks at once, and serves by what it sees when this returns.
    ///
    /// # Errors
    /// Where the registry cannot be asked; what was known goes on.
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
                "the registry has gone back: what was declared since is lost, as where Redis restarts without its data; declare it again (`tollgate apply`) or restore Redis"
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

    /// Looks a few times a second, for ever.
    pub async fn refresh_forever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            self.directory.refill_registry_permits();
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "the registry was not asked for changes");
            }
        }
    }
}

//! One request's access to the registry: it reads entries and commits changes as that request's.
//!
//! A change applies to the entries as they were read, and is committed only if they still are;
//! after a conflict it is made again to the new entries. Concurrent changes therefore never
//! overwrite each other. The resources themselves are edited by the other files of this room.

use std::sync::Arc;

use super::document_queue::DocumentQueue;
use super::file_resources::FileResources;
use super::key_names::{self, IndexBuild};
use super::seal::Seal;
use crate::control::model::{AuditEntry, ChangeOrigin, ControlError, Document, EntryPath};
use crate::control::serving::{LiveCatalog, RegistrySync};
use crate::store::{CommitError, EntryChange, Registry};

/// Everything that an edit needs, for one request.
#[derive(Clone)]
pub(super) struct EditSession {
    pub(super) registry: Registry,
    pub(super) live: Arc<LiveCatalog>,
    pub(super) sync: Arc<RegistrySync>,
    pub(super) seal: Arc<Seal>,
    pub(super) document_queue: Arc<DocumentQueue>,
    pub(super) index_build: Arc<IndexBuild>,
    pub(super) origin: ChangeOrigin,
}

impl EditSession {
    /// The resources of the catalog file.
    pub(super) fn files(&self) -> FileResources<'_> {
        FileResources::new(&self.live)
    }

    /// APIs and plans as they are now.
    pub(super) async fn document(&self) -> Result<Document, ControlError> {
        Document::parse(self.registry.get(&EntryPath::Document.to_string()).await?.as_deref())
    }

    /// Commits changes; false after a conflict. On success this node serves by them already, unless
    /// the registry has become unreachable in between.
    pub(super) async fn commit(&self, changes: &[EntryChange]) -> Result<bool, ControlError> {
        let committed = self.commit_without_refresh(changes).await?;
        if committed {
            self.refresh_after_commit().await;
        }
        Ok(committed)
    }

    /// Commits changes; false after a conflict. This node serves by them after its next refresh.
    pub(super) async fn commit_without_refresh(
        &self,
        changes: &[EntryChange],
    ) -> Result<bool, ControlError> {
        let note = AuditEntry::of_commit(&self.origin, changes).to_note();
        let index = key_names::index_changes(changes);
        match self.registry.commit(changes, &index, &[note], None).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict) => Ok(false),
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }

    /// Puts committed changes in use on this node, unless the registry is unreachable now.
    pub(super) async fn refresh_after_commit(&self) {
        if let Err(error) = self.sync.refresh().await {
            tracing::debug!(%error, "a committed change is not in use on this node yet");
        }
    }
}

/// The change that creates an entry.
pub(super) fn creation(path: EntryPath<'_>, becomes: String) -> EntryChange {
    EntryChange { path: path.into(), was: None, becomes: Some(becomes) }
}

/// The change that replaces an entry.
pub(super) fn replacement(path: EntryPath<'_>, was: String, becomes: String) -> EntryChange {
    EntryChange { path: path.into(), was: Some(was), becomes: Some(becomes) }
}

/// The change that deletes an entry.
pub(super) fn removal(path: EntryPath<'_>, was: String) -> EntryChange {
    EntryChange { path: path.into(), was: Some(was), becomes: None }
}

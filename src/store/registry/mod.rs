//! The registry: the entries that the admin API declares, by path. A commit is made whole or not at
//! all.
//!
//! Each change of a commit contains the entry's expected value, so that concurrent editors never
//! overwrite each other unseen. A commit increments the revision and records the paths that it
//! touched, so that a node that missed commits can ask for the paths changed since its revision.
//! Each commit also stores notes, in the order of the commits. Beside the entries there is an index,
//! rows in their own order, which the same commits change. The meaning of entries, rows and notes is
//! not known here.

mod embedded;

use std::sync::Arc;

use tokio::task::yield_now;

use super::{Redis, StoreError};
pub use embedded::EmbeddedRegistry;

/// The number of newest commits whose touched paths are stored.
pub(super) const MAX_TRACKED_REVISIONS: u64 = 10_000;
/// The most changed paths that a node is told one by one. Beyond them any may have changed: a node
/// that was cut off during an import forgets what it has cached, and reads it again as it is used.
pub(super) const MAX_CHANGED_PATHS: usize = 10_000;
/// The number of newest notes that are stored.
pub(super) const MAX_NOTES: u64 = 100_000;

/// The entries of the embedded registry that are read in one turn of the thread.
const ENTRIES_PER_TURN: usize = 1_000;

/// Entries by path, in this process or in Redis for all nodes.
///
/// The embedded registry never waits: its calls compute, or wait for the disk. So before each long
/// one, other requests of the thread get their turn; an import is thousands of them.
#[derive(Clone)]
pub enum Registry {
    /// A file of this process, or its memory.
    Embedded(Arc<EmbeddedRegistry>),
    /// Redis, shared by all nodes.
    Redis(Arc<Redis>),
}

/// The change of one entry in a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryChange {
    /// The path of the entry.
    pub path: String,
    /// The value that the entry must still have. `None` if it must not exist.
    pub was: Option<String>,
    /// The new value. `None` removes the entry. If it equals `was`, the change only guards the
    /// commit against a concurrent change of the entry.
    pub becomes: Option<String>,
}

/// The change of one row of the index in a commit: a text that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexChange {
    /// Adds the row, unless it is there.
    Add(String),
    /// Removes the row, if it is there.
    Remove(String),
}

/// The reason why a commit failed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An entry does not have the expected value, since another commit changed it first, or another
    /// editor commits next. Nothing was changed.
    #[error("another client changed the same entry at the same time")]
    Conflict,
    /// The store failed. If it gave no reply, the commit may have been made.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// A note of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitNote {
    /// The position: the store's clock in milliseconds since 1970, a dash, and a running number
    /// among notes of the same millisecond.
    pub id: String,
    /// The text, as the caller gave it.
    pub text: String,
}

impl CommitNote {
    /// The two numbers of an id, or `None` if `id` is malformed.
    pub(super) fn parse_id(id: &str) -> Option<(u64, u64)> {
        let (at, number) = id.split_once('-')?;
        Some((at.parse().ok()?, number.parse().ok()?))
    }

    /// The time of the commit, in milliseconds since 1970.
    #[must_use]
    pub fn unix_millis(&self) -> u64 {
        Self::parse_id(&self.id).map_or(0, |(at, _)| at)
    }
}

/// The changes since a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangesSince {
    /// The newest revision.
    pub revision: u64,
    /// The paths touched since. `None` if the revision is too old, or these are too many: any path
    /// may have changed.
    pub paths: Option<Vec<String>>,
}

impl Registry {
    /// Returns the value of an entry, if it exists.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn get(&self, path: &str) -> Result<Option<String>, StoreError> {
        match self {
            Self::Embedded(embedded) => embedded.get(path),
            Self::Redis(redis) => redis.registry_get(path).await,
        }
    }

    /// Returns the values of several entries, in the order of `paths`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn get_all(&self, paths: &[String]) -> Result<Vec<Option<String>>, StoreError> {
        match self {
            Self::Embedded(embedded) => {
                let mut values = Vec::with_capacity(paths.len());
                for chunk in paths.chunks(ENTRIES_PER_TURN) {
                    yield_now().await;
                    for path in chunk {
                        values.push(embedded.get(path)?);
                    }
                }
                Ok(values)
            }
            Self::Redis(redis) => redis.registry_get_all(paths).await,
        }
    }

    /// Returns up to `limit` entries whose paths begin with `prefix` and come after `after`, in
    /// order of their paths.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, String)>, StoreError> {
        match self {
            Self::Embedded(embedded) => {
                yield_now().await;
                embedded.page(prefix, after, limit)
            }
            Self::Redis(redis) => redis.registry_page(prefix, after, limit).await,
        }
    }

    /// Returns up to `limit` rows of the index that begin with `prefix` and come after `after`, in
    /// order. `None` if the index may lack rows of entries that are older than it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn index_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<String>>, StoreError> {
        match self {
            Self::Embedded(embedded) => {
                yield_now().await;
                embedded.index_page(prefix, after, limit)
            }
            Self::Redis(redis) => redis.registry_index_page(prefix, after, limit).await,
        }
    }

    /// Adds rows to the index. With `completes` it has all rows afterwards.
    ///
    /// # Errors
    /// If the store failed.
    pub async fn add_to_index(&self, rows: &[String], completes: bool) -> Result<(), StoreError> {
        match self {
            Self::Embedded(embedded) => {
                yield_now().await;
                embedded.add_to_index(rows, completes)
            }
            Self::Redis(redis) => redis.registry_add_to_index(rows, completes).await,
        }
    }

    /// Makes all changes of entries and of the index, and stores the notes, or does none of these.
    /// Returns the new revision.
    ///
    /// Commits with an `editor`, a name of up to 64 bytes, take turns: after a conflict the editor's
    /// next commit precedes those of other editors for up to half a second, so that a slow node is
    /// not overtaken again and again. The embedded registry has one editor, so it needs no turns.
    ///
    /// # Errors
    /// If an entry does not have its expected value, it is the turn of another editor, or the store
    /// failed.
    pub async fn commit(
        &self,
        changes: &[EntryChange],
        index: &[IndexChange],
        notes: &[String],
        editor: Option<&str>,
    ) -> Result<u64, CommitError> {
        match self {
            Self::Embedded(embedded) => {
                yield_now().await;
                embedded.commit(changes, index, notes)
            }
            Self::Redis(redis) => redis.registry_commit(changes, index, notes, editor).await,
        }
    }

    /// Returns up to `limit` notes that are older than the note with the id `before`, newest first.
    /// A malformed id yields no notes.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn notes(
        &self,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<CommitNote>, StoreError> {
        let before = match before.map(CommitNote::parse_id) {
            None => None,
            Some(None) => return Ok(Vec::new()),
            Some(place) => place,
        };
        match self {
            Self::Embedded(embedded) => {
                yield_now().await;
                embedded.notes(before, limit)
            }
            Self::Redis(redis) => redis.registry_notes(before, limit).await,
        }
    }

    /// Returns the newest revision and the paths touched since the revision `since`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn changes(&self, since: u64) -> Result<ChangesSince, StoreError> {
        match self {
            Self::Embedded(embedded) => embedded.changes(since),
            Self::Redis(redis) => redis.registry_changes(since).await,
        }
    }
}

//! What is declared while the service runs: entries by path, changed together or not at all.
//!
//! A change names what each entry was, so two editors never overwrite each other unseen. Each
//! commit has the next revision, and lists which entries it touched, so that whoever missed a
//! commit, or a hundred, learns what to look at. With each commit goes a note, kept in the order of the
//! commits: a change cannot be made without it. What entries and notes mean is not known here.

mod embedded;

use std::sync::Arc;

use super::{Redis, StoreError};
pub use embedded::EmbeddedRegistry;

/// How many commits back the touched paths are known.
pub(super) const MAX_TRACKED_REVISIONS: u64 = 10_000;
/// How many notes are kept, the newest.
pub(super) const MAX_NOTES: u64 = 100_000;

/// Entries by path, in this process or in Redis for all nodes.
#[derive(Clone)]
pub enum Registry {
    /// In a file of this process, or in its memory.
    Embedded(Arc<EmbeddedRegistry>),
    /// Shared by all nodes.
    Redis(Arc<Redis>),
}

/// One entry of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryChange {
    /// Which entry.
    pub path: String,
    /// What it must still be; `None` where there must be none.
    pub was: Option<String>,
    /// What it becomes; `None` removes it. The same as before only demands that nobody changed it.
    pub becomes: Option<String>,
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An entry is not what the commit expects: somebody was faster.
    #[error("somebody else changed the same thing at the same time")]
    Conflict,
    /// The store; where it gave no answer, the commit may have happened.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// What was noted with a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitNote {
    /// Its place: the store's clock in milliseconds since 1970, a dash, and a number among equals.
    pub id: String,
    /// What it says.
    pub text: String,
}

impl CommitNote {
    /// The two numbers of an id; nothing where it is none.
    pub(super) fn parse_id(id: &str) -> Option<(u64, u64)> {
        let (at, number) = id.split_once('-')?;
        Some((at.parse().ok()?, number.parse().ok()?))
    }

    /// When it was noted, in milliseconds since 1970.
    #[must_use]
    pub fn unix_millis(&self) -> u64 {
        Self::parse_id(&self.id).map_or(0, |(at, _)| at)
    }
}

/// What happened since a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangesSince {
    /// The newest revision.
    pub revision: u64,
    /// The paths touched since; `None` where that is not known any more, so that all may be.
    pub paths: Option<Vec<String>>,
}

impl Registry {
    /// What an entry says.
    ///
    /// # Errors
    /// Where the store is lost.
    pub async fn get(&self, path: &str) -> Result<Option<String>, StoreError> {
        match self {
            Self::Embedded(embedded) => embedded.get(path),
            Self::Redis(redis) => redis.registry_get(path).await,
        }
    }

    /// What several entries say, in order.
    ///
    /// # Errors
    /// Where the store is lost.
    pub async fn get_all(&self, paths: &[String]) -> Result<Vec<Option<String>>, StoreError> {
        match self {
            Self::Embedded(embedded) => paths.iter().map(|path| embedded.get(path)).collect(),
            Self::Redis(redis) => redis.registry_get_all(paths).await,
        }
    }

    /// Up to `limit` entries whose paths begin with `prefix` and come after `after`, in order of
    /// their paths.
    ///
    /// # Errors
    /// Where the store is lost.
    pub async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, String)>, StoreError> {
        match self {
            Self::Embedded(embedded) => embedded.page(prefix, after, limit),
            Self::Redis(redis) => redis.registry_page(prefix, after, limit).await,
        }
    }

    /// Makes all changes and keeps the note, or none of it.
    ///
    /// # Errors
    /// Where an entry is not what it should be, or the store is lost.
    pub async fn commit(&self, changes: &[EntryChange], note: &str) -> Result<u64, CommitError> {
        match self {
            Self::Embedded(embedded) => embedded.commit(changes, note),
            Self::Redis(redis) => redis.registry_commit(changes, note).await,
        }
    }

    /// Up to `limit` notes from before the one with the id `before`, the newest first. Before what is
    /// no id there are none.
    ///
    /// # Errors
    /// Where the store is lost.
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
            Self::Embedded(embedded) => embedded.notes(before, limit),
            Self::Redis(redis) => redis.registry_notes(before, limit).await,
        }
    }

    /// What was touched since a revision.
    ///
    /// # Errors
    /// Where the store is lost.
    pub async fn changes(&self, since: u64) -> Result<ChangesSince, StoreError> {
        match self {
            Self::Embedded(embedded) => embedded.changes(since),
            Self::Redis(redis) => redis.registry_changes(since).await,
        }
    }
}

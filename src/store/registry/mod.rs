//! What is declared while the service runs: entries by path, changed together or not at all.
//!
//! A change names what each entry was, so two editors never overwrite each other unseen. Each
//! commit has the next revision, and lists which entries it touched, so that whoever missed a
//! commit, or a hundred, learns what to look at. What the entries mean is not known here.

mod embedded;

use std::sync::Arc;

use super::{Error, Redis};
pub use embedded::{Embedded, Unopened};

/// How many commits back the touched paths are known.
pub(super) const REMEMBERED: u64 = 10_000;

/// Entries by path, in this process or in Redis for all nodes.
#[derive(Clone)]
pub enum Registry {
    /// In a file of this process, or in its memory.
    Embedded(Arc<Embedded>),
    /// Shared by all nodes.
    Redis(Arc<Redis>),
}

/// One entry of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which entry.
    pub path: String,
    /// What it must still be; `None` where there must be none.
    pub was: Option<String>,
    /// What it becomes; `None` removes it. The same as before only demands that nobody changed it.
    pub becomes: Option<String>,
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum Uncommitted {
    /// An entry is not what the commit expects: somebody was faster.
    #[error("somebody else changed the same thing at the same time")]
    Conflict,
    /// The store; where it gave no answer, the commit may have happened.
    #[error("{0}")]
    Store(#[from] Error),
}

/// What happened since a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
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
    pub async fn get(&self, path: &str) -> Result<Option<String>, Error> {
        match self {
            Self::Embedded(embedded) => embedded.get(path),
            Self::Redis(redis) => redis.registry_get(path).await,
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
    ) -> Result<Vec<(String, String)>, Error> {
        match self {
            Self::Embedded(embedded) => embedded.page(prefix, after, limit),
            Self::Redis(redis) => redis.registry_page(prefix, after, limit).await,
        }
    }

    /// Makes all changes, or none.
    ///
    /// # Errors
    /// Where an entry is not what it should be, or the store is lost.
    pub async fn commit(&self, changes: &[Change]) -> Result<u64, Uncommitted> {
        match self {
            Self::Embedded(embedded) => embedded.commit(changes),
            Self::Redis(redis) => redis.registry_commit(changes).await,
        }
    }

    /// What was touched since a revision.
    ///
    /// # Errors
    /// Where the store is lost.
    pub async fn changes(&self, since: u64) -> Result<Changes, Error> {
        match self {
            Self::Embedded(embedded) => embedded.changes(since),
            Self::Redis(redis) => redis.registry_changes(since).await,
        }
    }
}

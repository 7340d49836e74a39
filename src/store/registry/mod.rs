//! What is declared while the service runs: entries by path, changed together or not at all.
//!
//! A change names what each entry was, so two editors never overwrite each other unseen. Each
//! commit has the next revision, and lists which entries it touched, so that whoever missed a
//! commit, or a hundred, learns what to look at. With each commit goes a note, kept in the order of the
//! commits: a change cannot be made without it. What entries and notes mean is not known here.

mod embedded;

use std::sync::Arc;

use super::{Error, Redis};
pub use embedded::Embedded;

/// How many commits back the touched paths are known.
pub(super) const REMEMBERED: u64 = 10_000;
/// How many notes are kept, the newest.
pub(super) const NOTES: u64 = 100_000;

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

/// What was noted with a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its place: the store's clock in milliseconds since 1970, a dash, and a number among equals.
    pub id: String,
    /// What it says.
    pub text: String,
}

impl Note {
    /// The two numbers of an id; nothing where it is none.
    pub(super) fn place(id: &str) -> Option<(u64, u64)> {
        let (at, number) = id.split_once('-')?;
        Some((at.parse().ok()?, number.parse().ok()?))
    }

    /// When it was noted, in milliseconds since 1970.
    #[must_use]
    pub fn at(&self) -> u64 {
        Self::place(&self.id).map_or(0, |(at, _)| at)
    }
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

    /// What several entries say, in order.
    ///
    /// # Errors
    /// Where the store is lost.
    pub async fn get_all(&self, paths: &[String]) -> Result<Vec<Option<String>>, Error> {
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
    ) -> Result<Vec<(String, String)>, Error> {
        match self {
            Self::Embedded(embedded) => embedded.page(prefix, after, limit),
            Self::Redis(redis) => redis.registry_page(prefix, after, limit).await,
        }
    }

    /// Makes all changes and keeps the note, or none of it.
    ///
    /// # Errors
    /// Where an entry is not what it should be, or the store is lost.
    pub async fn commit(&self, changes: &[Change], note: &str) -> Result<u64, Uncommitted> {
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
    pub async fn notes(&self, before: Option<&str>, limit: usize) -> Result<Vec<Note>, Error> {
        let before = match before.map(Note::place) {
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
    pub async fn changes(&self, since: u64) -> Result<Changes, Error> {
        match self {
            Self::Embedded(embedded) => embedded.changes(since),
            Self::Redis(redis) => redis.registry_changes(since).await,
        }
    }
}

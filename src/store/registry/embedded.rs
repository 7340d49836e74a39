//! The registry of one process: a redb file, or the same in memory.
//!
//! A commit blocks until it is on disk; only the control plane commits. Checks only read, and a
//! read does not wait for a commit.

use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _};
use redb::{TableDefinition, WriteTransaction};

use super::{
    ChangesSince, CommitError, CommitNote, EntryChange, IndexChange, MAX_CHANGED_PATHS, MAX_NOTES,
    MAX_TRACKED_REVISIONS,
};
use crate::store::database::DatabaseFile;
use crate::store::{DataDir, DataDirError, StoreError};
use crate::time::{Clock as _, SystemClock};

const ENTRIES: TableDefinition<'_, &str, &str> = TableDefinition::new("entries");
/// Touched paths by revision and position in the commit.
const TOUCHED: TableDefinition<'_, (u64, u64), &str> = TableDefinition::new("touched");
/// Notes by their time in milliseconds and a running number within the millisecond.
const NOTED: TableDefinition<'_, (u64, u64), &str> = TableDefinition::new("noted");

/// The rows of the index. The empty one says that it has all of them.
const INDEX: TableDefinition<'_, &str, ()> = TableDefinition::new("index");

/// The registry of one process.
pub struct EmbeddedRegistry(DatabaseFile);

impl EmbeddedRegistry {
    /// A registry in memory, which is lost with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(DatabaseFile::in_memory())
    }

    /// The registry in the data directory.
    ///
    /// # Errors
    /// If its file cannot be used.
    pub fn open(dir: &DataDir) -> Result<Self, DataDirError> {
        Ok(Self(DatabaseFile::open(dir, "tollgate.redb")?))
    }

    pub(super) fn get(&self, path: &str) -> Result<Option<String>, StoreError> {
        self.0.run(|database| match database.begin_read()?.open_table(ENTRIES) {
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            table => Ok(table?.get(path)?.map(|value| value.value().to_owned())),
        })
    }

    pub(super) fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, String)>, StoreError> {
        self.0.run(|database| {
            let table = match database.begin_read()?.open_table(ENTRIES) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut page = Vec::new();
            for entry in table.range(after.unwrap_or(prefix)..)? {
                let (path, value) = entry?;
                if page.len() == limit || !path.value().starts_with(prefix) {
                    break;
                }
                if Some(path.value()) != after {
                    page.push((path.value().to_owned(), value.value().to_owned()));
                }
            }
            Ok(page)
        })
    }

    pub(super) fn index_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<String>>, StoreError> {
        self.0.run(|database| {
            let table = match database.begin_read()?.open_table(INDEX) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            if table.get("")?.is_none() {
                return Ok(None);
            }
            let after = after.unwrap_or(prefix);
            let mut page = Vec::new();
            for row in table.range(after..)? {
                let row = row?.0;
                if page.len() == limit || !row.value().starts_with(prefix) {
                    break;
                }
                if row.value() != after {
                    page.push(row.value().to_owned());
                }
            }
            Ok(Some(page))
        })
    }

    pub(super) fn add_to_index(&self, rows: &[String], completes: bool) -> Result<(), StoreError> {
        self.0.run(|database| {
            let transaction = database.begin_write()?;
            let mut index = transaction.open_table(INDEX)?;
            for row in rows.iter().map(String::as_str).chain(completes.then_some("")) {
                index.insert(row, ())?;
            }
            drop(index);
            Ok(transaction.commit()?)
        })
    }

    pub(super) fn commit(
        &self,
        changes: &[EntryChange],
        index: &[IndexChange],
        notes: &[String],
    ) -> Result<u64, CommitError> {
        let committed = self.0.run(|database| try_commit(database, changes, index, notes))?;
        committed.ok_or(CommitError::Conflict)
    }

    pub(super) fn notes(
        &self,
        before: Option<(u64, u64)>,
        limit: usize,
    ) -> Result<Vec<CommitNote>, StoreError> {
        self.0.run(|database| {
            let table = match database.begin_read()?.open_table(NOTED) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let noted = table.range(..before.unwrap_or((u64::MAX, u64::MAX)))?.rev().take(limit);
            let note = |entry: Result<(redb::AccessGuard<'_, _>, redb::AccessGuard<'_, _>), _>| {
                let (place, text) = entry?;
                let (at, number): (u64, u64) = place.value();
                let text: &str = text.value();
                Ok(CommitNote { id: format!("{at}-{number}"), text: text.into() })
            };
            noted.map(note).collect()
        })
    }

    pub(super) fn changes(&self, since: u64) -> Result<ChangesSince, StoreError> {
        self.0.run(|database| {
            let table = match database.begin_read()?.open_table(TOUCHED) {
                Err(redb::TableError::TableDoesNotExist(_)) => {
                    return Ok(ChangesSince { revision: 0, paths: Some(Vec::new()) });
                }
                table => table?,
            };
            let revision = table.last()?.map_or(0, |(key, _)| key.value().0);
            let first = table.first()?.map_or(0, |(key, _)| key.value().0);
            let known = since + 1 >= first && since <= revision;
            let touched = table.range((since + 1, 0)..)?.take(MAX_CHANGED_PATHS + 1);
            let paths = touched.map(|entry| Ok(entry?.1.value().to_owned()));
            let paths =
                known.then(|| paths.collect::<Result<Vec<_>, redb::Error>>()).transpose()?;
            let paths = paths.filter(|paths| paths.len() <= MAX_CHANGED_PATHS);
            Ok(ChangesSince { revision, paths })
        })
    }
}

/// Returns the new revision, or `None` if an entry does not have its expected value.
fn try_commit(
    database: &Database,
    changes: &[EntryChange],
    index: &[IndexChange],
    notes: &[String],
) -> Result<Option<u64>, redb::Error> {
    let transaction = database.begin_write()?;
    let revision = {
        let mut entries = transaction.open_table(ENTRIES)?;
        for change in changes {
            if entries.get(&*change.path)?.as_ref().map(redb::AccessGuard::value)
                != change.was.as_deref()
            {
                return Ok(None);
            }
        }
        let mut touched = transaction.open_table(TOUCHED)?;
        let revision = touched.last()?.map_or(0, |(key, _)| key.value().0) + 1;
        for (place, change) in changes.iter().enumerate() {
            match change.becomes.as_deref() {
                Some(value) => drop(entries.insert(&*change.path, value)?),
                None => drop(entries.remove(&*change.path)?),
            }
            touched.insert((revision, place as u64), &*change.path)?;
        }
        change_index(&transaction, index, revision == 1)?;
        touched.retain_in(..(revision.saturating_sub(MAX_TRACKED_REVISIONS), 0), |_, _| false)?;
        let mut log = transaction.open_table(NOTED)?;
        let now = (SystemClock.now().get() / 1000, 0);
        for note in notes {
            let last = log.last()?.map(|(place, _)| place.value());
            // Later than the last note, even if the clock was set back.
            let place = last.map_or(now, |(at, number)| now.max((at, number + 1)));
            log.insert(place, &**note)?;
        }
        while log.len()? > MAX_NOTES {
            log.pop_first()?;
        }
        revision
    };
    transaction.commit()?;
    Ok(Some(revision))
}

/// Changes rows of the index. Before the first commit nothing was there that it could lack.
fn change_index(
    transaction: &WriteTransaction,
    changes: &[IndexChange],
    is_first_commit: bool,
) -> Result<(), redb::Error> {
    let mut index = transaction.open_table(INDEX)?;
    for change in changes {
        match change {
            IndexChange::Add(row) => drop(index.insert(&**row, ())?),
            IndexChange::Remove(row) => drop(index.remove(&**row)?),
        }
    }
    if is_first_commit {
        index.insert("", ())?;
    }
    Ok(())
}

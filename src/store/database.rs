//! Databases of this process: a redb file in the data directory, or the same in memory.
//!
//! What is in them is for whoever opens them.

use std::path::Path;

use redb::Database;
use redb::backends::InMemoryBackend;

use super::StoreError;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The folder cannot be made.
    #[error("{0}")]
    Folder(#[from] std::io::Error),
    /// The file is no database, or another process has it open.
    #[error("{0}")]
    Database(#[from] redb::DatabaseError),
    /// What is in it cannot be read.
    #[error("{0}")]
    Unreadable(#[from] StoreError),
}

/// A database that a restart forgets.
pub(super) fn in_memory() -> Database {
    let database = Database::builder().create_with_backend(InMemoryBackend::new());
    database.unwrap_or_else(|error| unreachable!("memory that is empty: {error}"))
}

/// The database in a file of `folder`, which is made where it is missing.
///
/// # Errors
/// Where the folder or the file cannot be used.
pub(super) fn open(folder: &Path, file: &str) -> Result<Database, DataDirError> {
    std::fs::create_dir_all(folder)?;
    Ok(Database::create(folder.join(file))?)
}

//! Databases of this process: a redb file in the data directory, or the same in memory.
//!
//! Tables are defined by the modules that open a database, not here.

use std::path::Path;

use redb::Database;
use redb::backends::InMemoryBackend;

use super::StoreError;

/// The reason why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The folder cannot be created.
    #[error("{0}")]
    Folder(#[from] std::io::Error),
    /// The file is not a database, or another process has it open.
    #[error("{0}")]
    Database(#[from] redb::DatabaseError),
    /// The content of the file cannot be read.
    #[error("{0}")]
    Unreadable(#[from] StoreError),
}

/// A database in memory, which is lost with the process.
pub(super) fn in_memory() -> Database {
    let database = Database::builder().create_with_backend(InMemoryBackend::new());
    database.unwrap_or_else(|error| unreachable!("memory that is empty: {error}"))
}

/// The database in a file of `folder`. Both are created if they are missing.
///
/// # Errors
/// If the folder or the file cannot be used.
pub(super) fn open(folder: &Path, file: &str) -> Result<Database, DataDirError> {
    std::fs::create_dir_all(folder)?;
    Ok(Database::create(folder.join(file))?)
}

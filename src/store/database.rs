//! Databases of this process: redb files in the data directory, or the same in memory.
//!
//! redb refuses everything after a failed write, until the file is opened again. So a file that
//! failed is closed here, and the next call opens it: a disk that was full is used again once it
//! has room. Tables are defined by the modules that open a database, not here.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::Database;
use redb::backends::InMemoryBackend;

use super::StoreError;
use crate::telemetry::Metrics;

/// The time until a file that failed is opened again: ten times as long as opening it took, since
/// it is then read whole, within these bounds.
const MIN_REOPEN_DELAY: Duration = Duration::from_secs(1);
const MAX_REOPEN_DELAY: Duration = Duration::from_secs(5);

/// The reason why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The folder cannot be created.
    #[error("{path}: {why}", path = .0.display(), why = .1)]
    Folder(PathBuf, #[source] std::io::Error),
    /// A file cannot be opened, or another process has it open.
    #[error("{path}: {why}", path = .0.display(), why = .1)]
    File(PathBuf, #[source] redb::Error),
    /// A file has lost its whole content.
    #[error("{path} is empty, which no file of Tollgate is; restore it from a backup, or delete it to begin without its contents", path = .0.display())]
    Empty(PathBuf),
    /// The file with the encryption key cannot be used.
    #[error("{path}: {why}; it decrypts the values of API keys: make it readable or restore it from a backup, or delete it to begin with a new key, without the values", path = .0.display(), why = .1)]
    KeyFile(PathBuf, String),
    /// The content of a file cannot be read.
    #[error("{0}")]
    Unreadable(#[from] StoreError),
}

/// The folder of the databases, and whether they can be used now.
#[derive(Clone)]
pub struct DataDir {
    folder: PathBuf,
    metrics: Arc<Metrics>,
    failing_files: Arc<AtomicUsize>,
}

impl DataDir {
    /// The data directory `folder`, which is created if it is missing, for its owner alone.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn open(folder: &Path, metrics: Arc<Metrics>) -> Result<Self, DataDirError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|why| DataDirError::Folder(folder.to_owned(), why))?;
        let failing_files = Arc::default();
        Ok(Self { folder: folder.to_owned(), metrics, failing_files })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// True if it has a file of this name.
    #[must_use]
    pub fn has_file(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    /// True while the last use of one of its files has failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failing_files.load(Ordering::Relaxed) > 0
    }
}

/// A database in a file of the data directory, or in memory.
pub(super) struct DatabaseFile {
    state: RwLock<FileState>,
    /// `None` in memory, where nothing fails.
    place: Option<FilePlace>,
}

struct FilePlace {
    path: PathBuf,
    dir: DataDir,
    is_failing: AtomicBool,
    /// The time that opening the file took the last time, in milliseconds.
    open_ms: AtomicU64,
}

enum FileState {
    Open(Database),
    /// Closed after a failure until this time, for this reason.
    Closed(Instant, String),
}

impl DatabaseFile {
    /// A database in memory, which is lost with the process.
    pub(super) fn in_memory() -> Self {
        let database = Database::builder().create_with_backend(InMemoryBackend::new());
        let database = database.unwrap_or_else(|error| unreachable!("empty memory: {error}"));
        Self { state: RwLock::new(FileState::Open(database)), place: None }
    }

    /// The database in the file `name` of `dir`, which is created if it is missing.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub(super) fn open(dir: &DataDir, name: &str) -> Result<Self, DataDirError> {
        let path = dir.folder.join(name);
        if std::fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
            return Err(DataDirError::Empty(path));
        }
        let (dir, is_failing) = (dir.clone(), AtomicBool::new(false));
        let place = FilePlace { path, dir, is_failing, open_ms: AtomicU64::new(0) };
        let database = place.open()?;
        Ok(Self { state: RwLock::new(FileState::Open(database)), place: Some(place) })
    }

    /// The data directory; `None` in memory.
    pub(super) fn dir(&self) -> Option<&DataDir> {
        self.place.as_ref().map(|place| &place.dir)
    }

    /// Runs `work` on the database. A file that is closed is opened first.
    ///
    /// # Errors
    /// If the file cannot be opened, or the work fails: it is then done whole or not at all.
    pub(super) fn run<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let done = self.try_run(work);
        if let Some(place) = &self.place {
            place.record(done.is_ok());
        }
        done.map_err(StoreError::Disk)
    }

    fn try_run<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, String> {
        self.reopen_if_closed()?;
        let (place, why) = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            FileState::Closed(_, why) => return Err(why.clone()),
            FileState::Open(database) => match catch_panic(|| work(database)) {
                Ok(value) => return Ok(value),
                Err(error) => match &self.place {
                    None => return Err(error.to_string()),
                    Some(place) => (place, describe(&place.path, &error)),
                },
            },
        };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let closed = FileState::Closed(place.reopens_at(), why.clone());
        let failed = std::mem::replace(&mut *state, closed);
        let _also_failed = catch_panic(|| {
            drop(failed);
            Ok(())
        });
        Err(why)
    }

    fn reopen_if_closed(&self) -> Result<(), String> {
        let Some(place) = &self.place else { return Ok(()) };
        if matches!(&*self.state.read().unwrap_or_else(PoisonError::into_inner), FileState::Open(_))
        {
            return Ok(());
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let FileState::Closed(until, why) = &mut *state else { return Ok(()) };
        if Instant::now() < *until {
            return Err(why.clone());
        }
        match place.open() {
            Ok(database) => {
                *state = FileState::Open(database);
                Ok(())
            }
            Err(error) => {
                (*until, *why) = (place.reopens_at(), error.to_string());
                Err(why.clone())
            }
        }
    }
}

impl FilePlace {
    /// Opens the file, for its owner alone, and checks its content: redb could panic later
    /// otherwise.
    fn open(&self) -> Result<Database, DataDirError> {
        let (path, started) = (&self.path, Instant::now());
        let open = || -> Result<Database, redb::Error> {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).mode(0o600).open(path)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            let mut builder = Database::builder();
            builder.set_check_integrity_on_open(true);
            Ok(builder.create(path)?)
        };
        let opened = catch_panic(open);
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.open_ms.store(millis, Ordering::Relaxed);
        opened.map_err(|error| match damage(&error) {
            Some(_) => StoreError::Disk(describe(path, &error)).into(),
            None => DataDirError::File(path.clone(), error),
        })
    }

    /// The time when the file is opened again if it has failed now.
    fn reopens_at(&self) -> Instant {
        let opening = Duration::from_millis(self.open_ms.load(Ordering::Relaxed));
        Instant::now() + opening.saturating_mul(10).clamp(MIN_REOPEN_DELAY, MAX_REOPEN_DELAY)
    }

    /// Notes if the file could be used.
    fn record(&self, success: bool) {
        if !success {
            self.dir.metrics.record_store_error("disk");
        }
        let was_failing = self.is_failing.swap(!success, Ordering::Relaxed);
        match (was_failing, success) {
            (false, false) => drop(self.dir.failing_files.fetch_add(1, Ordering::Relaxed)),
            (true, true) => {
                self.dir.failing_files.fetch_sub(1, Ordering::Relaxed);
                tracing::info!(file = %self.path.display(), "the file can be used again");
            }
            _ => {}
        }
    }
}

/// Runs work of redb, which panics on some damaged files.
fn catch_panic<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(redb::Error::Corrupted("its content is inconsistent".into())))
}

/// The damage to a file's content, if that is the error.
fn damage(error: &redb::Error) -> Option<String> {
    match error {
        redb::Error::Corrupted(why) => Some(why.clone()),
        redb::Error::Io(error) if error.kind() == ErrorKind::InvalidData => Some(error.to_string()),
        _ => None,
    }
}

/// The fault of a file and its remedy.
fn describe(path: &Path, error: &redb::Error) -> String {
    let path = path.display();
    match damage(error) {
        Some(why) => format!(
            "{path} is damaged ({why}); stop the service, and restore the file from a backup, or delete it to begin without its contents"
        ),
        None => format!(
            "{path} cannot be read or written (is there room, and the right to write?): {error}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_library_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::open(folder.path(), Arc::new(Metrics::new())).unwrap();
        let file = DatabaseFile::open(&dir, "a.redb").unwrap();
        let panics = |database: &Database| {
            let _transaction = database.begin_write()?;
            panic!("a page is damaged")
        };
        let error = file.run::<()>(panics).unwrap_err().to_string();
        assert!(error.contains("a.redb is damaged") && error.contains("backup"), "{error}");
        assert!(dir.is_failing());
        let again = file.run(|_| Ok(())).unwrap_err().to_string();
        assert_eq!(again, error, "it is not opened again at once");
        drop(file);
        let file = DatabaseFile::open(&dir, "a.redb").unwrap();
        assert!(file.run(|_| Ok(())).is_ok(), "its lock was given up");
    }
}

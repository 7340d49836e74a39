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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::Database;
use redb::backends::InMemoryBackend;

use super::StoreError;
use crate::telemetry::Metrics;

/// The shortest time between two attempts to open a file that failed: each may read it whole.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

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
}

enum FileState {
    Open(Database),
    /// Closed after a failure, at this time and for this reason.
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
        let place = FilePlace { path, dir: dir.clone(), is_failing: AtomicBool::new(false) };
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
        let why = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            FileState::Closed(_, why) => return Err(why.clone()),
            FileState::Open(database) => match catch_panic(|| work(database)) {
                Ok(value) => return Ok(value),
                Err(error) => match &self.place {
                    None => return Err(error.to_string()),
                    Some(place) => describe(&place.path, &error),
                },
            },
        };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let failed = std::mem::replace(&mut *state, FileState::Closed(Instant::now(), why.clone()));
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
        let FileState::Closed(at, why) = &mut *state else { return Ok(()) };
        if at.elapsed() < REOPEN_INTERVAL {
            return Err(why.clone());
        }
        match place.open() {
            Ok(database) => {
                *state = FileState::Open(database);
                Ok(())
            }
            Err(error) => {
                (*at, *why) = (Instant::now(), error.to_string());
                Err(why.clone())
            }
        }
    }
}

impl FilePlace {
    /// Opens the file, for its owner alone, and checks its content: redb could panic later
    /// otherwise.
    fn open(&self) -> Result<Database, DataDirError> {
        let path = &self.path;
        let open = || -> Result<Database, redb::Error> {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).mode(0o600).open(path)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            let mut builder = Database::builder();
            builder.set_check_integrity_on_open(true);
            Ok(builder.create(path)?)
        };
        catch_panic(open).map_err(|error| match damage(&error) {
            Some(_) => StoreError::Disk(describe(path, &error)).into(),
            None => DataDirError::File(path.clone(), error),
        })
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

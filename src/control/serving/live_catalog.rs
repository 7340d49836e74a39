//! The catalog in use, and its changes while the service runs.
//!
//! It is composed of the catalog file and of the admin API's document. A check uses one catalog
//! from beginning to end. A source that makes no valid catalog changes nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use arc_swap::{ArcSwap, Guard};
use foldhash::HashSet;

use super::places::name_place;
use crate::catalog::raw::RawCatalog;
use crate::catalog::{Catalog, CatalogFile, CounterPlacement, ValidationError};
use crate::control::model::{ControlError, Document};
use crate::control::translate::document_to_catalog;
use crate::telemetry::Metrics;
use crate::time::{Clock as _, SystemClock};
use crate::watch::{FileStamp, file_stamp, watch};

/// The catalog in use.
pub struct LiveCatalog {
    current: ArcSwap<Catalog>,
    /// Written after `current`: true if that has everything declared, as far as this node knows.
    ready: AtomicBool,
    file: Option<PathBuf>,
    /// The file's stamp when it was first read.
    initial_stamp: Option<FileStamp>,
    counters: CounterPlacement,
    sources: Mutex<Sources>,
    /// Catalogs that were replaced, until no check uses them: to free a large one takes a while,
    /// which a worker must not spend.
    replaced: Mutex<Vec<Arc<Catalog>>>,
    metrics: Arc<Metrics>,
}

/// The parts that the catalog in use is composed of.
struct Sources {
    /// The last valid contents of the file; `None` without a file.
    file: Option<Arc<CatalogFile>>,
    /// The admin API's document in the catalog's form; `None` if nothing was ever declared.
    declared: Option<Arc<RawCatalog>>,
    /// True if there is no file, and the registry has not been read yet.
    awaits_registry: bool,
    /// True if the admin API's document has been in use since the start.
    api_was_in_use: bool,
    /// The catalog of the document that was validated last, for when that document is committed.
    candidate: Option<Candidate>,
}

/// A catalog that was composed to validate a document.
struct Candidate {
    document: String,
    file: Option<Arc<CatalogFile>>,
    declared: Arc<RawCatalog>,
    catalog: Arc<Catalog>,
}

impl Candidate {
    /// True if it is of this document and of this version of the file.
    fn is_of(&self, document: Option<&str>, file: Option<&Arc<CatalogFile>>) -> bool {
        let same_file = match (&self.file, file) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_file && document == Some(&*self.document)
    }
}

/// The reason why a catalog file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It cannot be read.
    #[error("cannot read {path}: {why}", path = .0.display(), why = .1)]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// It makes no valid catalog.
    #[error("{0}")]
    Invalid(#[from] ValidationError),
}

/// Reads and checks a catalog file, for a store with this placement of counters.
///
/// # Errors
/// If it cannot be read, or makes no valid catalog.
pub fn read_catalog(path: &Path, counters: CounterPlacement) -> Result<Catalog, ConfigFileError> {
    let origin = path.display().to_string();
    let catalog = Catalog::compose(&parse_file(path)?, &origin, None)?;
    catalog.check_placement(counters, &origin)?;
    Ok(catalog)
}

fn parse_file(path: &Path) -> Result<CatalogFile, ConfigFileError> {
    let unreadable = |why| ConfigFileError::Unreadable(path.into(), why);
    let changed = std::fs::metadata(path).and_then(|file| file.modified()).map_err(unreadable)?;
    let changed = changed.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Ok(CatalogFile::parse(&text, &path.display().to_string())?.changed_at(changed))
}

/// The contents of a catalog file that declares nothing.
fn empty_file(origin: &str) -> Result<CatalogFile, ValidationError> {
    CatalogFile::parse("version: 1", origin)
}

impl LiveCatalog {
    /// Loads `file`, for a store with this placement of counters. Without a file nothing is in use
    /// until the registry has been read; if that declares nothing, the built-in example is.
    ///
    /// # Errors
    /// If the file cannot be used: a service does not start on half a catalog.
    pub fn load(
        file: Option<PathBuf>,
        counters: CounterPlacement,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConfigFileError> {
        let initial_stamp = file.as_deref().and_then(file_stamp);
        let contents = file.as_deref().map(parse_file).transpose()?;
        let sources = Sources {
            awaits_registry: contents.is_none(),
            file: contents.map(Arc::new),
            declared: None,
            api_was_in_use: false,
            candidate: None,
        };
        let live = Self {
            current: ArcSwap::from_pointee(Catalog::example()),
            ready: AtomicBool::new(!sources.awaits_registry),
            file,
            initial_stamp,
            counters,
            sources: Mutex::new(sources),
            replaced: Mutex::default(),
            metrics,
        };
        live.install(Arc::new(live.compose_sources(&live.sources())?));
        Ok(live)
    }

    /// Composes a catalog of the contents of the file and of the admin API's document.
    fn compose(
        &self,
        file: Option<&CatalogFile>,
        declared: Option<&RawCatalog>,
    ) -> Result<Catalog, ValidationError> {
        let origin = match &self.file {
            // Errors count the document's entries on from the file's.
            Some(file) if declared.is_some() => {
                format!("{} and behind it what the API declares", file.display())
            }
            Some(file) => file.display().to_string(),
            None => "the API".into(),
        };
        let catalog = match (file, declared) {
            (None, None) => Catalog::example(),
            (None, declared) => Catalog::compose(&empty_file(&origin)?, &origin, declared)?,
            (Some(file), declared) => Catalog::compose(file, &origin, declared)?,
        };
        catalog.check_placement(self.counters, &origin)?;
        Ok(catalog)
    }

    fn compose_sources(&self, sources: &Sources) -> Result<Catalog, ValidationError> {
        // The example's key must not pass while other keys may be declared.
        if sources.awaits_registry && sources.declared.is_none() {
            return Catalog::compose(&empty_file("nothing yet")?, "nothing yet", None);
        }
        self.compose(sources.file.as_deref(), sources.declared.as_deref())
    }

    /// True while the built-in example is in use: there is no file, and nothing is declared.
    #[must_use]
    pub fn serves_example(&self) -> bool {
        let sources = self.sources();
        sources.file.is_none() && sources.declared.is_none() && !sources.awaits_registry
    }

    /// False until the catalog in use holds all that is declared: while the registry is still to be
    /// read, or its document makes no valid catalog with the file and never has since the start.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The catalog in use at this moment.
    #[must_use]
    pub fn catalog(&self) -> Guard<Arc<Catalog>> {
        self.current.load()
    }

    /// The catalog in use, if a file is a part of it.
    pub(in crate::control) fn file_backed_catalog(&self) -> Option<Guard<Arc<Catalog>>> {
        self.file.is_some().then(|| self.catalog())
    }

    /// Reloads the file. If it makes no valid configuration, the one in use stays.
    pub fn reload(&self) {
        let Some(file) = &self.file else {
            tracing::info!("there is no catalog file to reload");
            return;
        };
        match parse_file(file).and_then(|contents| Ok(self.replace_file(contents)?)) {
            Ok(()) => self.metrics.reloads.with_label_values(&["ok"]).inc(),
            Err(error) => {
                self.metrics.reloads.with_label_values(&["failed"]).inc();
                tracing::error!(%error, "the catalog was not reloaded; the one in use stays");
            }
        }
    }

    /// Serves by the registry's document from now on, if there is one. A document that was
    /// validated last by this node is not composed again.
    ///
    /// If it makes no valid catalog with the file, the catalog in use stays until either changes. A
    /// node that has never served by the document then does not know its clients: it is not ready.
    pub(in crate::control) fn apply_document(&self, document: Option<&str>) {
        let applied = self.try_apply(document);
        let is_ready = applied.is_ok() || self.sources().api_was_in_use;
        self.ready.store(is_ready, Ordering::Release);
        if let Err(error) = applied {
            let effect = if is_ready { "the catalog in use stays" } else { "its clients get 503" };
            tracing::error!(%error, "what the API declares is not in use, {effect}: it makes no valid catalog with the file");
        }
    }

    fn try_apply(&self, document: Option<&str>) -> Result<(), String> {
        let mut sources = self.sources();
        let candidate = sources.candidate.take();
        let candidate = candidate.filter(|made| made.is_of(document, sources.file.as_ref()));
        let catalog = if let Some(Candidate { declared, catalog, .. }) = candidate {
            sources.declared = Some(declared);
            sources.awaits_registry = false;
            catalog
        } else {
            let declared = document
                .map(|text| document_to_catalog(&Document::parse(Some(text))?))
                .transpose()
                .map_err(|error| error.to_string())?;
            sources.declared = declared.map(Arc::new);
            sources.awaits_registry = false;
            let catalog = self.compose_sources(&sources).map_err(|error| error.to_string())?;
            Arc::new(catalog)
        };
        sources.api_was_in_use = true;
        self.install(catalog);
        Ok(())
    }

    /// The text of a document that makes a valid catalog with the file. The catalog is kept for
    /// when the document is committed.
    ///
    /// # Errors
    /// If it makes no valid catalog.
    pub(in crate::control) fn validate(&self, document: &Document) -> Result<String, ControlError> {
        let candidate = self.compose_candidate(document)?;
        let text = candidate.document.clone();
        self.sources().candidate = Some(candidate);
        Ok(text)
    }

    /// The catalog that a document makes with the file. It is not kept.
    ///
    /// # Errors
    /// If they make no valid catalog.
    pub(in crate::control) fn preview(
        &self,
        document: &Document,
    ) -> Result<Arc<Catalog>, ControlError> {
        self.compose_candidate(document).map(|candidate| candidate.catalog)
    }

    fn compose_candidate(&self, document: &Document) -> Result<Candidate, ControlError> {
        let declared = Arc::new(document_to_catalog(document)?);
        let document = document.to_entry()?;
        let file = self.sources().file.clone();
        let catalog = self.compose(file.as_deref(), Some(&declared)).map_err(|invalid| {
            let errors = invalid.errors().iter();
            let named = errors.map(|error| name_place(error, file.as_deref(), &declared));
            ControlError::BadRequest(named.collect::<Vec<_>>().join("; "))
        })?;
        Ok(Candidate { document, file, declared, catalog: Arc::new(catalog) })
    }

    /// Serves by other contents of the file, or changes nothing.
    fn replace_file(&self, contents: CatalogFile) -> Result<(), ValidationError> {
        let mut sources = self.sources();
        let catalog = self.compose(Some(&contents), sources.declared.as_deref())?;
        sources.file = Some(Arc::new(contents));
        let is_all = sources.declared.is_some();
        sources.api_was_in_use |= is_all;
        self.install(Arc::new(catalog));
        self.ready.fetch_or(is_all, Ordering::Release);
        Ok(())
    }

    /// The catalog file, and its contents in use.
    pub(super) fn file_in_use(&self) -> Option<(&Path, Arc<CatalogFile>)> {
        self.file.as_deref().zip(self.sources().file.clone())
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        lock(&self.sources)
    }

    fn install(&self, catalog: Arc<Catalog>) {
        // Each change of a resource installs a catalog, most of them with the same warnings.
        let current = self.catalog();
        let known: HashSet<&String> = current.warnings().iter().collect();
        for warning in catalog.warnings().iter().filter(|warning| !known.contains(warning)) {
            tracing::warn!("{warning}");
        }
        tracing::info!(revision = catalog.revision(), "catalog in use: {}", catalog.summary());
        self.metrics.catalog_info.reset();
        self.metrics.catalog_info.with_label_values(&[catalog.revision()]).set(1);
        #[expect(clippy::cast_precision_loss, reason = "seconds for a dashboard")]
        self.metrics.catalog_loaded.set(SystemClock.now().get() as f64 / 1e6);
        let replaced = self.current.swap(catalog);
        lock(&self.replaced).push(replaced);
    }

    /// Frees the catalogs that were replaced and that no check uses any more.
    pub(super) fn free_replaced(&self) {
        let in_use = |catalog: &mut Arc<Catalog>| Arc::strong_count(catalog) > 1;
        let unused: Vec<_> = lock(&self.replaced).extract_if(.., |it| !in_use(it)).collect();
        drop(unused);
    }

    /// Reloads the file whenever it has changed. Never returns if there is a file.
    pub async fn watch(self: Arc<Self>) {
        let Some(file) = self.file.clone() else { return };
        watch(self.initial_stamp, move || file_stamp(&file), move || self.reload()).await;
    }
}

/// A panic elsewhere leaves what is locked here whole: each part is replaced in one piece.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(burst: u32) -> Document {
        let plan = serde_json::json!({
            "id": "p", "name": "p", "throttle": { "rateLimit": 1.0, "burstLimit": burst },
        });
        let document = serde_json::json!({ "restApis": {}, "usagePlans": { "p": plan } });
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_committed_document_is_served_by_the_catalog_that_validated_it() {
        let live = LiveCatalog::load(None, CounterPlacement::Together, Arc::new(Metrics::new()));
        let live = live.unwrap();
        let validated = |live: &LiveCatalog| {
            live.sources().candidate.as_ref().map(|candidate| Arc::clone(&candidate.catalog))
        };
        let text = live.validate(&document(1)).unwrap();
        let catalog = validated(&live).unwrap();
        live.apply_document(Some(&text));
        assert!(Arc::ptr_eq(&live.catalog(), &catalog), "it was not composed again");
        assert!(validated(&live).is_none() && live.is_ready());
        // Another node's document came between validation and commit.
        let other = live.validate(&document(2)).unwrap();
        live.validate(&document(3)).unwrap();
        let catalog = validated(&live).unwrap();
        live.apply_document(Some(&other));
        assert!(!Arc::ptr_eq(&live.catalog(), &catalog), "it is of another document");
    }

    #[test]
    fn a_catalog_validated_with_an_older_file_is_composed_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.yaml");
        std::fs::write(&path, "version: 1\nplans: [{ id: old }]").unwrap();
        let metrics = Arc::new(Metrics::new());
        let live =
            LiveCatalog::load(Some(path.clone()), CounterPlacement::Together, metrics).unwrap();
        let text = live.validate(&document(1)).unwrap();
        std::fs::write(&path, "version: 1\nplans: [{ id: new }]").unwrap();
        live.reload();
        live.apply_document(Some(&text));
        let catalog = live.catalog();
        assert_eq!(["old", "new", "p"].map(|id| catalog.has_plan(id)), [false, true, true]);
    }
}

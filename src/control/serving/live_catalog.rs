//! The catalog in use, and how it changes while the service runs.
//!
//! It is made from the catalog file and from what the API declares. A check sees one catalog from
//! its beginning to its end. A source that cannot be used changes nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use serde_json::Value;

use crate::catalog::{Catalog, CounterPlacement, ValidationError};
use crate::control::model::{ControlError, Document};
use crate::telemetry::Metrics;
use crate::time::{Clock as _, SystemClock};
use crate::watch::{FileStamp, file_stamp, watch};

/// The catalog in use.
pub struct LiveCatalog {
    current: ArcSwap<Catalog>,
    /// Behind `current`: where it is true, what stands there holds all that is declared, as far as anybody
    /// has told.
    ready: AtomicBool,
    file: Option<PathBuf>,
    /// The file as it was when it was first read.
    initial_stamp: Option<FileStamp>,
    counters: CounterPlacement,
    sources: Mutex<Sources>,
    metrics: Arc<Metrics>,
}

/// What the catalog in use was made from.
#[derive(Clone)]
struct Sources {
    /// What the file said when it was last of use; absent without a file.
    file_text: Option<String>,
    /// What the API declares, as the catalog writes it; absent while that is nothing.
    declared: Option<Value>,
    /// Whether there is no file, and what the API declares has not been read yet.
    awaits_registry: bool,
    /// Whether what the API declares has been in use since the start.
    api_was_in_use: bool,
}

/// Why a catalog file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It could not be read at all.
    #[error("cannot read {path}: {why}", path = .0.display(), why = .1)]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// What it says makes no catalog.
    #[error("{0}")]
    Invalid(#[from] ValidationError),
}

/// Reads and checks a catalog file, for a store that keeps `counters` like this.
///
/// # Errors
/// Where it cannot be read, or says something that cannot be.
pub fn read_catalog(path: &Path, counters: CounterPlacement) -> Result<Catalog, ConfigFileError> {
    let origin = path.display().to_string();
    let catalog = Catalog::parse(&read_file(path)?, &origin)?;
    catalog.check_placement(counters, &origin)?;
    Ok(catalog)
}

fn read_file(path: &Path) -> Result<String, ConfigFileError> {
    std::fs::read_to_string(path).map_err(|why| ConfigFileError::Unreadable(path.into(), why))
}

impl Sources {
    fn compose(
        &self,
        file: Option<&Path>,
        counters: CounterPlacement,
    ) -> Result<Catalog, ValidationError> {
        let origin = match file {
            // The API's come behind the file's, and are counted on from there.
            Some(file) if self.declared.is_some() => {
                format!("{} and behind it what the API declares", file.display())
            }
            Some(file) => file.display().to_string(),
            None => "the API".into(),
        };
        let catalog = match (&self.file_text, &self.declared) {
            // The example's key must not pass where something else may be declared.
            (None, None) if self.awaits_registry => Catalog::parse("version: 1", "nothing yet")?,
            (None, None) => Catalog::example(),
            (text, declared) => {
                let text = text.as_deref().unwrap_or("version: 1");
                Catalog::compose(text, &origin, declared.as_ref())?
            }
        };
        catalog.check_placement(counters, &origin)?;
        Ok(catalog)
    }
}

impl LiveCatalog {
    /// Loads `file`, for a store that keeps `counters` like this. Without one nothing is in use until
    /// the registry has been read; where the API declares nothing, it is the built-in example then.
    ///
    /// # Errors
    /// Where the file cannot be used: a service does not start on half a catalog.
    pub fn load(
        file: Option<PathBuf>,
        counters: CounterPlacement,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConfigFileError> {
        let initial_stamp = file.as_deref().and_then(file_stamp);
        let text = file.as_deref().map(read_file).transpose()?;
        let awaits_registry = text.is_none();
        let sources =
            Sources { awaits_registry, file_text: text, declared: None, api_was_in_use: false };
        let catalog = sources.compose(file.as_deref(), counters)?;
        let current = ArcSwap::from_pointee(Catalog::example());
        let ready = AtomicBool::new(!sources.awaits_registry);
        let sources = Mutex::new(sources);
        let live = Self { current, ready, file, initial_stamp, counters, sources, metrics };
        live.install(catalog);
        Ok(live)
    }

    /// Whether the catalog in use is one: not where it is still to be read from the registry.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The catalog in use at this moment.
    #[must_use]
    pub fn catalog(&self) -> Guard<Arc<Catalog>> {
        self.current.load()
    }

    /// The catalog in use, where there is a file that it is made from.
    pub(in crate::control) fn file_backed_catalog(&self) -> Option<Guard<Arc<Catalog>>> {
        self.file.is_some().then(|| self.catalog())
    }

    /// Reads the file again; what cannot be used leaves everything as it was.
    pub fn reload(&self) {
        let Some(file) = &self.file else {
            tracing::info!("there is no catalog file to reload");
            return;
        };
        match read_file(file).and_then(|text| Ok(self.replace_file_text(text)?)) {
            Ok(()) => self.metrics.reloads.with_label_values(&["ok"]).inc(),
            Err(error) => {
                self.metrics.reloads.with_label_values(&["failed"]).inc();
                tracing::error!(%error, "the catalog was not reloaded; the one in use stays");
            }
        }
    }

    /// Uses what the API declares from now on: the registry's document, if there is one.
    ///
    /// Where it makes no catalog with the file, the one in use stays until either of them changes. A
    /// node that has never served by it does not know then who its clients are: it is not ready.
    pub(in crate::control) fn apply_document(&self, document: Option<&str>) {
        let declared =
            document.map(|text| Document::parse(Some(text))?.to_catalog_json()).transpose();
        let applied = declared.map_err(|error| error.to_string()).and_then(|declared| {
            let mut sources = self.sources();
            sources.declared = declared;
            sources.awaits_registry = false;
            let catalog = sources.compose(self.file.as_deref(), self.counters);
            let catalog = catalog.map_err(|error| error.to_string())?;
            sources.api_was_in_use = true;
            self.install(catalog);
            Ok(())
        });
        let is_ready = applied.is_ok() || self.sources().api_was_in_use;
        self.ready.store(is_ready, Ordering::Release);
        if let Err(error) = applied {
            let answers = if is_ready { "the catalog in use stays" } else { "its clients get 503" };
            tracing::error!(%error, "what the API declares is not in use, {answers}: it makes no catalog with the file");
        }
    }

    /// Whether the API may declare this beside the file.
    ///
    /// # Errors
    /// Where it makes no catalog.
    pub(in crate::control) fn validate(&self, document: &Document) -> Result<(), ControlError> {
        let declared = Some(document.to_catalog_json()?);
        let candidate = Sources { declared, ..self.sources().clone() };
        let refused = candidate.compose(self.file.as_deref(), self.counters).err();
        refused.map_or(Ok(()), |invalid| Err(ControlError::BadRequest(invalid.errors().join("; "))))
    }

    /// Uses another text of the file, or changes nothing.
    fn replace_file_text(&self, text: String) -> Result<(), ValidationError> {
        let mut sources = self.sources();
        let candidate = Sources { file_text: Some(text), ..sources.clone() };
        let catalog = candidate.compose(self.file.as_deref(), self.counters)?;
        *sources = candidate;
        let is_all = sources.declared.is_some();
        sources.api_was_in_use |= is_all;
        self.install(catalog);
        self.ready.fetch_or(is_all, Ordering::Release);
        Ok(())
    }

    /// A panic elsewhere leaves the sources whole: each is replaced in one piece.
    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn install(&self, catalog: Catalog) {
        for warning in catalog.warnings() {
            tracing::warn!("{warning}");
        }
        tracing::info!(revision = catalog.revision(), "catalog in use: {}", catalog.summary());
        self.metrics.catalog_info.reset();
        self.metrics.catalog_info.with_label_values(&[catalog.revision()]).set(1);
        #[expect(clippy::cast_precision_loss, reason = "seconds for a dashboard")]
        self.metrics.catalog_loaded.set(SystemClock.now().get() as f64 / 1e6);
        self.current.store(Arc::new(catalog));
    }

    /// Reloads whenever the file has changed. Never returns where there is a file.
    pub async fn watch(self: Arc<Self>) {
        let Some(file) = self.file.clone() else { return };
        watch(self.initial_stamp, move || file_stamp(&file), move || self.reload()).await;
    }
}

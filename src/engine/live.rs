//! The catalog in use, and how it changes while the service runs.
//!
//! A check sees one catalog from its beginning to its end. A file that cannot be used changes
//! nothing. The file is looked at by its metadata: that sees an editor's rename and a `ConfigMap`'s
//! symlink swap alike, on every file system.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};

use crate::catalog::Catalog;
use crate::telemetry::Metrics;
use crate::time::{Clock as _, SystemClock};

/// How often the file's metadata is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The catalog in use.
pub struct Live {
    current: ArcSwap<Catalog>,
    file: Option<PathBuf>,
    metrics: Arc<Metrics>,
}

/// Why a catalog file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It could not be read at all.
    #[error("cannot read the catalog {path}: {why}", path = .0.display(), why = .1)]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// What it says makes no catalog.
    #[error("{0}")]
    Invalid(#[from] crate::catalog::Invalid),
}

/// Reads and checks a catalog file.
///
/// # Errors
/// Where it cannot be read, or says something that cannot be.
pub fn read(path: &Path) -> Result<Catalog, Unusable> {
    let text =
        std::fs::read_to_string(path).map_err(|why| Unusable::Unreadable(path.into(), why))?;
    Ok(Catalog::parse(&text, &path.display().to_string())?)
}

/// What tells a changed file from an unchanged one.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Live {
    /// Loads `file`, or the built-in example where there is none.
    ///
    /// # Errors
    /// Where the file cannot be used: a service does not start on half a catalog.
    pub fn load(file: Option<PathBuf>, metrics: Arc<Metrics>) -> Result<Self, Unusable> {
        let catalog = file.as_deref().map_or_else(|| Ok(Catalog::example()), read)?;
        let live = Self { current: ArcSwap::from_pointee(Catalog::example()), file, metrics };
        live.use_now(catalog);
        Ok(live)
    }

    /// The catalog in use at this moment.
    #[must_use]
    pub fn catalog(&self) -> Guard<Arc<Catalog>> {
        self.current.load()
    }

    /// Reads the file again; what cannot be used leaves everything as it was.
    pub fn reload(&self) {
        let Some(file) = &self.file else {
            tracing::info!("there is no catalog file to reload: the built-in example is in use");
            return;
        };
        match read(file) {
            Ok(catalog) => {
                self.metrics.reloads.with_label_values(&["ok"]).inc();
                self.use_now(catalog);
            }
            Err(error) => {
                self.metrics.reloads.with_label_values(&["failed"]).inc();
                tracing::error!(%error, "the catalog was not reloaded; the one in use stays");
            }
        }
    }

    fn use_now(&self, catalog: Catalog) {
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

    /// Reloads whenever the file has changed and then stood still for a moment, so that a file
    /// half written is not taken for a whole one. Never returns where there is a file.
    pub async fn watch(self: Arc<Self>) {
        let Some(file) = self.file.clone() else { return };
        let (mut used, mut seen) = (stamp(&file), stamp(&file));
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = stamp(&file);
            if now.is_some() && now != used && now == seen {
                used = now;
                let live = Arc::clone(&self);
                let _panicked = tokio::task::spawn_blocking(move || live.reload()).await;
            }
            seen = now;
        }
    }
}

fn stamp(file: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

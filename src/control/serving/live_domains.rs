//! The rate limits of Envoy's domains in use, and their reloads while the service runs.
//!
//! They are configured in a file, or in all YAML files of a folder. A request uses one
//! configuration from beginning to end. An invalid configuration changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::live_catalog::ConfigFileError;
use crate::catalog::envoy::Domains;
use crate::telemetry::Metrics;
use crate::watch::{FileStamp, file_stamp, watch};

/// The files with their stamps, by which a change is noticed; a missing file has no stamp.
type FileStamps = Vec<(PathBuf, Option<FileStamp>)>;

/// The configuration in use.
pub struct LiveDomains {
    current: ArcSwap<Domains>,
    path: PathBuf,
    /// The stamps of the files when they were first read.
    initial_stamps: Option<FileStamps>,
    metrics: Arc<Metrics>,
}

/// Reads and checks envoyproxy/ratelimit's YAML: of a file, or of a folder.
///
/// # Errors
/// If it cannot be read, or the configuration is invalid.
pub fn read_domains(path: &Path) -> Result<Domains, ConfigFileError> {
    let unreadable = |path: &Path, why| ConfigFileError::Unreadable(path.into(), why);
    let (files, passed_over) = list_files(path).map_err(|why| unreadable(path, why))?;
    let read = |file: PathBuf| match std::fs::read_to_string(&file) {
        Ok(text) => Ok((file.file_name().unwrap_or_default().display().to_string(), text)),
        Err(why) => Err(unreadable(&file, why)),
    };
    let texts = files.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let texts = texts.iter().map(|(name, text)| (&**name, &**text));
    let mut domains = Domains::parse(&path.display().to_string(), texts)?;
    for file in passed_over {
        domains.warn(&file, "is not read: only *.yaml and *.yml of the folder itself are");
    }
    Ok(domains)
}

fn stamp_files(path: &Path) -> Option<FileStamps> {
    let (files, _) = list_files(path).ok()?;
    Some(files.into_iter().map(|file| (file.clone(), file_stamp(&file))).collect())
}

/// The file itself, or the YAML files of a folder by name, and the names of its other entries.
/// Hidden entries, such as those of a `ConfigMap`, are ignored.
fn list_files(path: &Path) -> std::io::Result<(Vec<PathBuf>, Vec<String>)> {
    let (mut files, mut passed_over) = (Vec::new(), Vec::new());
    if !std::fs::metadata(path)?.is_dir() {
        return Ok((vec![path.into()], passed_over));
    }
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let (file, name) = (entry.path(), entry.file_name().display().to_string());
        let yaml = file.extension().is_some_and(|end| end == "yaml" || end == "yml");
        // A dangling link counts as a file, so that reading it is an error.
        let folder = std::fs::metadata(&file).is_ok_and(|metadata| metadata.is_dir());
        match () {
            () if name.starts_with('.') => {}
            () if yaml && !folder => files.push(file),
            () => passed_over.push(name),
        }
    }
    files.sort();
    passed_over.sort();
    Ok((files, passed_over))
}

impl LiveDomains {
    /// Loads a file, or the files of a folder.
    ///
    /// # Errors
    /// If the configuration cannot be used: a service does not start on half of it.
    pub fn load(path: PathBuf, metrics: Arc<Metrics>) -> Result<Self, ConfigFileError> {
        let initial_stamps = stamp_files(&path);
        let current = ArcSwap::from_pointee(read_domains(&path)?);
        log_loaded(&current.load());
        Ok(Self { current, path, initial_stamps, metrics })
    }

    /// The configuration in use at this moment.
    #[must_use]
    pub fn domains(&self) -> Arc<Domains> {
        self.current.load_full()
    }

    /// Reads the configuration again. If it is invalid, the one in use stays.
    pub fn reload(&self) {
        let result = match read_domains(&self.path) {
            Ok(domains) => {
                log_loaded(&domains);
                domains.inherit_labels(&self.domains());
                self.current.store(Arc::new(domains));
                "ok"
            }
            Err(error) => {
                tracing::error!(%error, "Envoy's limits were not reloaded; those in use stay");
                "failed"
            }
        };
        self.metrics.reloads.with_label_values(&[result]).inc();
    }

    /// Reloads whenever a file is changed, added or removed. Never returns.
    pub async fn watch(self: Arc<Self>) {
        let path = self.path.clone();
        watch(self.initial_stamps.clone(), move || stamp_files(&path), move || self.reload()).await;
    }
}

fn log_loaded(domains: &Domains) {
    for warning in domains.warnings() {
        tracing::warn!("{warning}");
    }
    tracing::info!("Envoy's limits in use: {}", domains.summary());
}

//! The settings of the record of decisions.

use std::path::PathBuf;

use super::SettingsError;
use super::raw::RawSettings;

/// The record of decisions: its file, its size, and what it holds.
#[derive(Clone, Debug)]
pub struct RecordSettings {
    /// The file, to which lines are appended.
    pub path: PathBuf,
    /// The size in bytes at which the file is rotated; 0 never rotates it.
    pub max_bytes: u64,
    /// The number of rotated files that are kept, 1 to 1000: `PATH.1` is the newest.
    pub kept_files: usize,
    /// True if lines have the request of their check: ids, paths, keys of policies.
    pub requests: bool,
}

/// The record, if decisions are recorded.
pub(super) fn from_raw(raw: &RawSettings) -> Result<Option<RecordSettings>, SettingsError> {
    let invalid = |key, why: &str| Err(SettingsError::Value { key, why: why.into() });
    if raw.record_max_bytes > 0 && raw.record_max_bytes < 65_536 {
        return invalid("record_max_bytes", "must be 0, which never rotates, or at least 65536");
    }
    if !(1..=1_000).contains(&raw.record_kept_files) {
        return invalid("record_kept_files", "must be between 1 and 1000");
    }
    Ok((!raw.record.is_empty()).then(|| RecordSettings {
        path: raw.record.clone().into(),
        max_bytes: raw.record_max_bytes,
        kept_files: raw.record_kept_files,
        requests: raw.record_requests,
    }))
}

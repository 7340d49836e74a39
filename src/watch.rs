//! Files that may change while the service runs, looked at by their metadata.
//!
//! That sees an editor's rename and a `ConfigMap`'s symlink swap alike, on every file system.

use std::path::Path;
use std::time::{Duration, SystemTime};

/// How often metadata is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What tells a changed file from an unchanged one.
pub type Stamp = (SystemTime, u64, u64);

/// The stamp of a file; `None` where there is none to be read.
#[must_use]
pub fn stamp(file: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Calls `changed`, which may block, whenever `look` tells something else than what is `used` and then
/// the same for a moment, so that what is half written is not taken for the whole. Never returns.
///
/// What is used was looked at before it was read: a change since then is seen.
pub async fn watch<S: PartialEq + Clone>(
    mut used: Option<S>,
    look: impl Fn() -> Option<S>,
    changed: impl Fn() + Clone + Send + 'static,
) {
    let mut seen = look();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = look();
        if now.is_some() && now != used && now == seen {
            used.clone_from(&now);
            let _panicked = tokio::task::spawn_blocking(changed.clone()).await;
        }
        seen = now;
    }
}

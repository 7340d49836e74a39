//! Files that may change while the service runs, looked at by their metadata.
//!
//! That sees an editor's rename and a `ConfigMap`'s symlink swap alike, on every file system.

use std::path::Path;
use std::time::{Duration, SystemTime};

/// How often metadata is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What tells a changed file from an unchanged one.
pub type FileStamp = (SystemTime, u64, u64);

/// The stamp of a file; `None` where there is none to be read.
#[must_use]
pub fn file_stamp(file: &Path) -> Option<FileStamp> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Calls `on_change`, which may block, whenever `read_stamp` tells something else than what is `loaded` and then
/// the same for a moment, so that what is half written is not taken for the whole. Never returns.
///
/// What is used was looked at before it was read: a change since then is seen.
pub async fn watch<S: PartialEq + Clone>(
    mut loaded: Option<S>,
    read_stamp: impl Fn() -> Option<S>,
    on_change: impl Fn() + Clone + Send + 'static,
) {
    let mut seen = read_stamp();
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let now = read_stamp();
        if now.is_some() && now != loaded && now == seen {
            loaded.clone_from(&now);
            let _panicked = tokio::task::spawn_blocking(on_change.clone()).await;
        }
        seen = now;
    }
}

//! Configuration files that are reloaded when they change, noticed by polling their metadata; and
//! the ticks at which this and all other periodic work of a node is done.
//!
//! Polling works on every file system, and notices an editor's rename and a `ConfigMap`'s symlink
//! swap alike. The files themselves are read by the caller.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::time::boot_clock;

/// Interval between two reads of the metadata.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Waits for the next poll: 200 ms on time.
pub async fn next_poll() {
    next_tick(POLL_INTERVAL).await;
}

/// Waits for the next tick of an `interval`, and never less than half of it.
///
/// Ticks are the multiples of the interval on one clock. Intervals that divide each other tick
/// together, so an idle node wakes once for all that one runtime does then.
pub async fn next_tick(interval: Duration) {
    let least = interval / 2;
    let past_tick = (boot_clock() + least).as_nanos() % interval.as_nanos();
    let past_tick = Duration::from_nanos(past_tick.try_into().unwrap_or_default());
    tokio::time::sleep((least + interval).saturating_sub(past_tick)).await;
}

/// The modification time, size and inode of a file.
pub type FileStamp = (SystemTime, u64, u64);

/// Reads the stamp of a file; `None` if its metadata cannot be read.
#[must_use]
pub fn file_stamp(file: &Path) -> Option<FileStamp> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Calls `on_change` whenever `read_stamp` returns another stamp than that of the `loaded` files,
/// and the same one again after an interval: a file that is still being written is not read.
/// `on_change` may block. Never returns.
///
/// `loaded` is the stamp read before the files themselves, so a change since then is noticed.
pub async fn watch<S: PartialEq + Clone>(
    mut loaded: Option<S>,
    read_stamp: impl Fn() -> Option<S>,
    on_change: impl Fn() + Clone + Send + 'static,
) {
    let mut seen = read_stamp();
    loop {
        next_poll().await;
        let now = read_stamp();
        if now.is_some() && now != loaded && now == seen {
            loaded.clone_from(&now);
            let _panicked = tokio::task::spawn_blocking(on_change.clone()).await;
        }
        seen = now;
    }
}

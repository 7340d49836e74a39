//! Logs on standard error: text for people, JSON for machines.
//!
//! Which events are logged is for those who log: once, where a failure is handled.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;
use crate::time::boot_clock;

/// Sends events to standard error from now on, from `info` up unless `RUST_LOG` says otherwise.
///
/// A second call changes nothing.
pub fn init_logs(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let _already_set = match format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
}

/// Lets a line through at most every ten seconds: for what callers could fill the log with.
#[derive(Debug, Default)]
pub struct LogThrottle(AtomicU64);

impl LogThrottle {
    /// Whether it is time for the next one.
    pub fn is_due(&self) -> bool {
        const INTERVAL_SECS: u64 = 10;
        // Ahead of the clock, so that the first is due at once.
        let now = boot_clock().as_secs() + INTERVAL_SECS;
        let last = self.0.load(Ordering::Relaxed);
        let is_due = now >= last + INTERVAL_SECS;
        is_due && self.0.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

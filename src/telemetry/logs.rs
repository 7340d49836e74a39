//! Logs on standard error: text for people, JSON for machines.
//!
//! Failures are logged once, where they are handled.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;
use crate::time::boot_clock;

/// Starts logging to standard error, from level `info` unless `RUST_LOG` is set. A second call
/// changes nothing.
pub fn init_logs(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // They are reported on standard error as well, and if its disk is full, by a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let _already_set = match format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
}

/// Limits a log line to one in ten seconds, for lines that clients could trigger at will.
#[derive(Debug, Default)]
pub struct LogThrottle(AtomicU64);

impl LogThrottle {
    /// Returns true if the next line may be logged.
    pub fn is_due(&self) -> bool {
        const INTERVAL_SECS: u64 = 10;
        // One step ahead of the clock, so that the first line is due at once.
        let now = boot_clock().as_secs() + INTERVAL_SECS;
        let last = self.0.load(Ordering::Relaxed);
        let is_due = now >= last + INTERVAL_SECS;
        is_due && self.0.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

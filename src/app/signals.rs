//! Signals: SIGHUP reloads files and opens the record again, SIGTERM drains, SIGINT stops at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The handled signals. Once they are installed, none of them ends the process by itself.
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn install() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Calls `reload`, which may block, on every SIGHUP. Returns false on SIGTERM, and true on
    /// SIGINT: a person who pressed Ctrl-C will not wait.
    pub(super) async fn wait_for_stop(
        mut self,
        reload: impl Fn() + Clone + Send + 'static,
    ) -> bool {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return false,
                _ = self.interrupt.recv() => return true,
                _ = self.hangup.recv() => {
                    let _panicked = tokio::task::spawn_blocking(reload.clone()).await;
                }
            }
        }
    }
}

//! Signals: SIGHUP reads files again, SIGTERM drains, SIGINT stops at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that mean something here. From its making on none of them ends the process.
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

    /// Calls `reload`, which may block, on every SIGHUP, until SIGTERM (`false`) or SIGINT (`true`:
    /// whoever pressed Ctrl-C will not wait).
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

//! Signals: SIGHUP reloads the catalog and Envoy's limits, SIGTERM drains, SIGINT stops at once.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::control::{Live, LiveDomains};

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

    /// Reloads what is declared in files on every SIGHUP, until SIGTERM (`false`) or SIGINT (`true`: whoever
    /// pressed Ctrl-C will not wait).
    pub(super) async fn obey(mut self, live: Arc<Live>, domains: Option<Arc<LiveDomains>>) -> bool {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return false,
                _ = self.interrupt.recv() => return true,
                _ = self.hangup.recv() => {
                    let (live, domains) = (Arc::clone(&live), domains.clone());
                    let reload = move || {
                        live.reload();
                        if let Some(domains) = domains {
                            domains.reload();
                        }
                    };
                    let _panicked = tokio::task::spawn_blocking(reload).await;
                }
            }
        }
    }
}

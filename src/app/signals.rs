//! Signals: SIGHUP reloads the catalog, SIGTERM drains, SIGINT stops at once.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::engine::Live;

/// Waits for SIGTERM (`false`) or SIGINT (`true`: whoever pressed Ctrl-C will not wait).
pub(super) async fn stop() -> bool {
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    tokio::select! {
        () = next(&mut terminate) => false,
        () = next(&mut interrupt) => true,
    }
}

/// Reloads the catalog on every SIGHUP.
pub(super) async fn reload_on_hangup(live: Arc<Live>) {
    let mut hangup = listen(SignalKind::hangup());
    loop {
        next(&mut hangup).await;
        let live = Arc::clone(&live);
        let _panicked = tokio::task::spawn_blocking(move || live.reload()).await;
    }
}

fn listen(kind: SignalKind) -> Option<Signal> {
    signal(kind).inspect_err(|error| tracing::error!(%error, "cannot listen for a signal")).ok()
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

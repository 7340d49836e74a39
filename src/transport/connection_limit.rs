//! The connection limit of a listener: at the limit, a further connection closes the idlest one.
//!
//! So clients that hold connections without using them shut nobody out. Time limits, which hold
//! below the limit as well, are in `open_connections`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::open_connections::{Idleness, OpenConnections};
use crate::telemetry::{ConnectionEnd, LogThrottle, Metrics};

/// Connections above the limit while those that make room for them are being closed.
const RESERVE: usize = 16;
/// The most connections that are chosen at a time. Choosing takes a look at all of them.
const MAX_CHOSEN: usize = 64;
/// The time to wait for a connection that is being closed, before another is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(50);

/// The limit of a listener and the connections of its workers.
pub(super) struct ConnectionLimit {
    flag: &'static str,
    max_connections: usize,
    permits: Arc<Semaphore>,
    workers: Vec<Arc<OpenConnections>>,
    /// The connections to close next, the idlest last, each with its worker's index. Those that
    /// have a request meanwhile are passed over; the others stay the idlest.
    chosen: Mutex<Vec<(Idleness, usize)>>,
    metrics: Arc<Metrics>,
    warning: LogThrottle,
}

impl ConnectionLimit {
    /// A limit of the listener that is configured by `flag`.
    pub(super) fn new(flag: &'static str, max_connections: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            flag,
            max_connections,
            permits: Arc::new(Semaphore::new(max_connections + RESERVE)),
            workers: Vec::new(),
            chosen: Mutex::default(),
            metrics,
            warning: LogThrottle::default(),
        }
    }

    /// Adds the connections of a worker.
    pub(super) fn watch_worker(&mut self, connections: Arc<OpenConnections>) {
        self.workers.push(connections);
    }

    /// A permit for a connection that is about to be accepted.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        loop {
            let permit = Arc::clone(&self.permits).acquire_owned();
            if let Ok(Ok(permit)) = tokio::time::timeout(CLOSE_TIMEOUT, permit).await {
                return permit;
            }
            self.close_idlest();
        }
    }

    /// Closes the idlest connection if there are more than the limit.
    pub(super) fn make_room(&self) {
        if self.permits.available_permits() < RESERVE {
            self.close_idlest();
        }
    }

    /// Resolves when no connection is open.
    pub(super) async fn wait_until_all_closed(&self) {
        let all = u32::try_from(self.max_connections + RESERVE).unwrap_or(u32::MAX);
        let _all_closed = self.permits.acquire_many(all).await;
    }

    fn close_idlest(&self) {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        let close_one = |chosen: &mut Vec<(Idleness, usize)>| {
            std::iter::from_fn(|| chosen.pop())
                .any(|(idleness, worker)| self.workers[worker].close_if_still_idle(idleness))
        };
        if !close_one(&mut chosen) {
            *chosen = self.choose();
            if !close_one(&mut chosen) {
                return;
            }
        }
        self.metrics.record_connection_end(ConnectionEnd::Limit);
        if self.warning.is_due() {
            let (listener, limit) = (self.flag, self.max_connections);
            tracing::warn!(
                listener,
                limit,
                "the connection limit is reached; each further connection closes the idlest one"
            );
        }
    }

    /// The idlest connections of all workers, the idlest last.
    fn choose(&self) -> Vec<(Idleness, usize)> {
        let of_worker = |(worker, connections): (usize, &Arc<OpenConnections>)| {
            connections.idleness().into_iter().map(move |idleness| (idleness, worker))
        };
        let mut all: Vec<_> = self.workers.iter().enumerate().flat_map(of_worker).collect();
        let count = (all.len() / MAX_CHOSEN).clamp(1, MAX_CHOSEN).min(all.len());
        if count < all.len() {
            all.select_nth_unstable(count);
            all.truncate(count);
        }
        all.sort_unstable_by(|one, other| other.cmp(one));
        all
    }
}

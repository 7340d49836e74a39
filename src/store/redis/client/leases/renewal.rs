//! A lease that is requested from Redis, and the wait of checks for it. The call itself is made by
//! the client.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::limit::Charge;

/// A charge to make in advance, and the time when its lifetime begins. Dropping it ends the wait of
/// checks for the lease.
pub(in crate::store::redis::client) struct Renewal {
    pub(in crate::store::redis::client) charge: Charge,
    pub(in crate::store::redis::client) requested_at: Duration,
    has_failed: watch::Sender<bool>,
}

impl Renewal {
    pub(super) fn new(charge: Charge, requested_at: Duration) -> Self {
        Self { charge, requested_at, has_failed: watch::Sender::new(false) }
    }

    pub(super) fn pending(&self) -> PendingRenewal {
        PendingRenewal(self.has_failed.subscribe())
    }

    /// Ends the wait of checks for the lease: they make their own calls.
    pub(in crate::store::redis::client) fn fail(self) {
        self.has_failed.send_replace(true);
    }
}

/// A renewal on its way, for checks that wait for it. Clones wait for the same one.
#[derive(Clone)]
pub(in crate::store::redis::client) struct PendingRenewal(watch::Receiver<bool>);

impl PendingRenewal {
    /// True once the renewal has ended, also if its task was dropped.
    pub(super) fn has_ended(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Waits until Redis has granted the lease or refused it. False if the call failed, or if there
    /// is no response by `deadline`.
    pub(in crate::store::redis::client) async fn response(mut self, deadline: Instant) -> bool {
        let failure = self.0.wait_for(|has_failed| *has_failed);
        timeout_at(deadline, failure).await.is_ok_and(|failure| failure.is_err())
    }
}

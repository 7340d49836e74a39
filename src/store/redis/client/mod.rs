//! A worker's Redis client: group commit over a connection of its own.
//!
//! While a script call is in flight, further checks wait in a queue, and the next call carries all
//! of them. If the reply takes longer than Redis needs for a call, the next call leaves before it:
//! round trips do not add up. A lone check is sent at once. A check is sent once or not at all.
//! The failure policy for a request whose check fails is in `engine`.

mod breaker;
mod call_in_flight;
mod calls_in_flight;
mod commit;
mod connection_task;
mod cross_slot;
mod dry_run;
mod grouping;
mod job;
mod leased_check;
mod leased_reservation;
mod leases;
mod pending_usage;
mod queue;
#[cfg(test)]
mod repointing;
mod reservation;
mod round_trips;
mod router;
mod silence;
#[cfg(feature = "bench")]
mod unbatched;
#[cfg(test)]
mod wakeups;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Redis, StoreError};
use crate::limit::{Charge, Charges, Refund};
use crate::store::{CheckContext, StoreVerdict};
use crate::time::{Micros, boot_clock};
use job::{CheckResult, QueuedCheck, Work};
pub use leases::HeldLeases;
pub(super) use leases::Leases;
use pending_usage::PendingUsage;
use router::Router;

/// The most checks in one script call, and in one job.
const MAX_BATCH: usize = 128;
/// The most charges in one script call, and in one job of several checks. All nodes wait while
/// Redis runs a script, which takes some 7 us for each charge.
const MAX_CALL_CHARGES: usize = 512;
/// The interval at which unspent leases are refunded, and pending usage is charged.
const LEASE_SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// A worker's Redis client. Clones are cheap and share connections; all clients of a node share its
/// leases.
#[derive(Clone)]
pub struct RedisClient {
    router: Router,
    redis: Arc<Redis>,
    leases: Arc<Leases>,
    pending_usage: Arc<PendingUsage>,
    /// Notified of the first pending usage, so that an idle client sleeps.
    usage_added: Arc<Notify>,
    #[cfg(feature = "bench")]
    unbatched: Option<Arc<unbatched::Unbatched>>,
}

impl Redis {
    /// Opens a client on the current runtime, connected if Redis can be reached now.
    pub async fn open_client(self: &Arc<Self>) -> RedisClient {
        let router = Router::connect(self).await;
        let is_first = self.clients.fetch_add(1, Ordering::Relaxed) == 0;
        let client = RedisClient {
            router,
            redis: Arc::clone(self),
            leases: Arc::clone(&self.lease_table),
            pending_usage: Arc::default(),
            usage_added: Arc::default(),
            #[cfg(feature = "bench")]
            unbatched: unbatched::Unbatched::from_environment().map(Arc::new),
        };
        if self.leases {
            tokio::spawn(client.clone().charge_usage());
        }
        if self.leases && is_first {
            tokio::spawn(client.clone().sweep_leases());
        }
        client
    }
}

impl RedisClient {
    /// Judges one check by `deadline`.
    ///
    /// # Errors
    /// If Redis did not judge the check, or not in time.
    pub async fn judge(
        &self,
        charges: &Charges,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        if !self.redis.leases || !charges.iter().any(Leases::is_leasable) {
            return self.judge_without_leases(charges, context, deadline).await;
        }
        let check = self.take_leases_in_turn(charges);
        if check.is_decided() {
            return Ok(self.decide_by_leases(charges, &check));
        }
        // Boxed, so that the futures of checks without leases stay small.
        Box::pin(self.judge_in_turn(charges, check, context, deadline)).await
    }

    async fn judge_without_leases(
        &self,
        charges: &Charges,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        #[cfg(feature = "bench")]
        if let Some(unbatched) = &self.unbatched {
            return Box::pin(unbatched.judge(&self.redis, charges)).await;
        }
        if self.redis.topology.is_sharded() {
            return Box::pin(self.judge_sharded(charges, context, deadline)).await;
        }
        self.router.judge(charges, context, deadline).await
    }

    /// Refunds the node's unspent leases, at intervals while there are any. Ends with the worker's
    /// runtime.
    async fn sweep_leases(self) {
        loop {
            self.leases.first_lease().await;
            tokio::time::sleep(LEASE_SWEEP_INTERVAL).await;
            self.refund_best_effort(self.leases.take_unspent(boot_clock(), false)).await;
        }
    }

    /// Charges pending usage, at intervals while there is any. Ends with the worker's runtime.
    async fn charge_usage(self) {
        loop {
            self.usage_added.notified().await;
            tokio::time::sleep(LEASE_SWEEP_INTERVAL).await;
            self.flush_usage().await;
        }
    }

    /// Charges the usage of requests that were allowed from leases.
    async fn flush_usage(&self) {
        let deadline = Instant::now() + self.redis.deadline;
        for counted in
            self.judge_all(&self.pending_usage.take(), &CheckContext::NONE, deadline).await
        {
            if let Err(error) = counted {
                tracing::debug!(%error, "the usage of requests that leases allowed is lost");
            }
        }
    }

    /// Charges the worker's pending usage before it stops. The node's last client refunds all
    /// leases.
    pub async fn retire(&self) {
        if self.redis.clients.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.refund_best_effort(self.leases.take_unspent(boot_clock(), true)).await;
        }
        self.flush_usage().await;
    }

    /// Refunds, and only logs a failure: after it fewer requests are admitted, never more.
    async fn refund_best_effort(&self, refunds: Vec<Refund>) {
        let deadline = Instant::now() + self.redis.deadline;
        if let Err(error) = self.refund(refunds, deadline).await {
            tracing::debug!(%error, "unspent leases are lost");
        }
    }

    /// Judges many checks, each on its own, in order. If they need several calls, which are made
    /// one after the other, `deadline` is that of the first one.
    pub async fn judge_all(
        &self,
        checks: &[Charges],
        context: &CheckContext,
        deadline: Instant,
    ) -> Vec<Result<StoreVerdict, StoreError>> {
        let (mut results, mut rest, mut deadline) = (Vec::new(), checks, deadline);
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(first_call(rest));
            results.extend(self.judge_chunk(chunk, context, deadline).await);
            // A further call waits like a check that arrives now, behind those of other callers.
            deadline = deadline.max(Instant::now() + self.redis.deadline);
            rest = behind;
        }
        results
    }

    /// Judges checks that fit into one script call.
    async fn judge_chunk(
        &self,
        chunk: &[Charges],
        context: &CheckContext,
        deadline: Instant,
    ) -> Vec<Result<StoreVerdict, StoreError>> {
        if self.redis.topology.is_sharded() {
            // Each check goes to its own slot. Checks of one subject stay in order, and the
            // connection task sends them together.
            return join_all(chunk.iter().map(|check| self.judge(check, context, deadline))).await;
        }
        let work = Work {
            checks: chunk.iter().map(|charges| QueuedCheck::new(charges, context)).collect(),
            ..Work::default()
        };
        let results = self.router.send(work, deadline).await.into_iter();
        results.map(|result| result.and_then(CheckResult::into_verdict)).collect()
    }

    /// Refunds charges, in the same script calls as checks that wait.
    ///
    /// # Errors
    /// If a refund failed or may have failed.
    pub async fn refund(&self, refunds: Vec<Refund>, deadline: Instant) -> Result<(), StoreError> {
        // If subjects may lie on different servers, each refund goes to its own slot.
        let together = if self.redis.topology.is_sharded() { 1 } else { MAX_BATCH };
        let work = |chunk: &[Refund]| Work { refunds: chunk.into(), ..Work::default() };
        let sent = refunds.chunks(together).map(|chunk| self.router.send(work(chunk), deadline));
        join_all(sent).await.into_iter().flatten().try_for_each(|result| result.map(drop))
    }

    /// Redis' time, estimated from the last reply.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.redis.clock.now()
    }

    /// The time for which no call is worth making about a leased limit that has just refused
    /// `charge`.
    #[must_use]
    pub fn pause_after_refusal(&self, charge: &Charge) -> Duration {
        let holders = self.redis.live_nodes();
        self.leases.pause_after_refusal(charge, self.now(), boot_clock(), holders)
    }

    /// True if the contexts of checks are observed.
    #[must_use]
    pub fn observes_contexts(&self) -> bool {
        self.redis.call_observer.is_some()
    }

    /// True once Redis could be used for the first time.
    #[must_use]
    pub fn was_reached(&self) -> bool {
        *self.redis.reached.borrow()
    }

    /// True while the circuit breaker of any of the node's connections is open.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.redis.open_breakers.load(Ordering::Relaxed) > 0
    }
}

/// The number of checks at the beginning that fit into one script call; at least one.
fn first_call(checks: &[Charges]) -> usize {
    let charges = checks.iter().scan(0, |sum, charges| {
        *sum += charges.len();
        Some(*sum)
    });
    charges.take(MAX_BATCH).take_while(|sum| *sum <= MAX_CALL_CHARGES).count().max(1)
}

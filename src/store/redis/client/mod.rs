//! A worker's way to Redis: group commit over a connection of its own.
//!
//! While a call is in flight, checks gather; the next call carries them all. There is no timer: a
//! lone check goes at once. A check is sent once or not at all. What a failure means for a request
//! is for the engine to say.

mod commit;
mod connection_task;
mod cross_slot;
mod grouping;
mod leased_check;
mod leases;
mod pending_usage;
mod queue;
mod shard_router;
#[cfg(feature = "bench")]
mod unbatched;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use smallvec::smallvec;
use tokio::time::Instant;

use super::{Redis, Servers, StoreError};
use crate::limit::{Charges, Refund};
use crate::store::StoreVerdict;
use crate::time::{Micros, boot_clock};
use connection_task::ConnectionTask;
use leases::Leases;
use pending_usage::PendingUsage;
use queue::{CallError, Queue, Work, receive_results};
use shard_router::ShardRouter;

/// Checks that one call carries at most, and one job has at most.
const MAX_BATCH: usize = 128;
/// How often unspent leases are given back.
const LEASE_SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// A worker's way to Redis; cheap to clone, and all clones are one.
#[derive(Clone)]
pub struct RedisClient {
    route: Route,
    redis: Arc<Redis>,
    leases: Arc<Leases>,
    pending_usage: Arc<PendingUsage>,
    #[cfg(feature = "bench")]
    unbatched: Option<Arc<unbatched::Unbatched>>,
}

/// Where checks go.
#[derive(Clone)]
enum Route {
    /// To the one primary.
    Direct(Queue),
    /// To whichever primary has the slot.
    Sharded(Arc<ShardRouter>),
}

impl Redis {
    /// A client on the current runtime, connected if Redis can be reached now.
    pub async fn open_client(self: &Arc<Self>) -> RedisClient {
        let route = match &self.servers {
            Servers::Single(server) => {
                let (queue, mut task) = ConnectionTask::with_queue(self, server);
                task.connect_once().await;
                tokio::spawn(task.run());
                Route::Direct(queue)
            }
            Servers::Cluster(topology) => {
                Route::Sharded(ShardRouter::connect(self, topology).await)
            }
        };
        self.clients.fetch_add(1, Ordering::Relaxed);
        let client = RedisClient {
            route,
            redis: Arc::clone(self),
            leases: Arc::default(),
            pending_usage: Arc::default(),
            #[cfg(feature = "bench")]
            unbatched: unbatched::Unbatched::from_environment().map(Arc::new),
        };
        if self.leases {
            tokio::spawn(client.clone().sweep_leases());
        }
        client
    }
}

impl RedisClient {
    /// Judges one check by `deadline`.
    ///
    /// # Errors
    /// Where Redis did not judge it in time, or at all.
    pub async fn judge(
        &self,
        charges: &Charges,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        if !self.redis.leases || !charges.iter().any(Leases::is_leasable) {
            return self.judge_without_leases(charges, deadline).await;
        }
        let check = self.take_leases(charges);
        if check.is_fully_leased() {
            return Ok(self.allow_from_leases(&check));
        }
        // Apart: so the futures of checks that need no such call stay small.
        Box::pin(self.judge_uncovered(charges, check, deadline)).await
    }

    async fn judge_without_leases(
        &self,
        charges: &Charges,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        #[cfg(feature = "bench")]
        if let Some(unbatched) = &self.unbatched {
            return Box::pin(unbatched.judge(&self.redis, charges)).await;
        }
        match &self.route {
            Route::Direct(queue) => {
                let work = Work { checks: smallvec![charges.clone()], ..Work::default() };
                let answers = receive_results(queue.send(work, deadline)?, 1).await;
                answers.into_iter().next().map_or(Err(StoreError::Timeout), into_store_result)
            }
            Route::Sharded(router) => Box::pin(self.judge_sharded(router, charges, deadline)).await,
        }
    }

    /// Gives unspent leases back for as long as anybody else has this client.
    async fn sweep_leases(self) {
        while Arc::strong_count(&self.leases) > 1 {
            tokio::time::sleep(LEASE_SWEEP_INTERVAL).await;
            self.refund_best_effort(self.leases.take_unspent(boot_clock(), false)).await;
            self.flush_usage().await;
        }
    }

    /// Counts what checks that leases covered have used.
    async fn flush_usage(&self) {
        let deadline = Instant::now() + self.redis.deadline;
        for counted in self.judge_all(&self.pending_usage.take(), deadline).await {
            if let Err(error) = counted {
                tracing::debug!(%error, "usage that leases covered is lost");
            }
        }
    }

    /// Gives all leases back, before the node stops.
    pub async fn retire(&self) {
        self.refund_best_effort(self.leases.take_unspent(boot_clock(), true)).await;
        self.flush_usage().await;
    }

    /// What is lost here was charged for nothing: that admits less, never more.
    async fn refund_best_effort(&self, refunds: Vec<Refund>) {
        let deadline = Instant::now() + self.redis.deadline;
        if let Err(error) = self.refund(refunds, deadline).await {
            tracing::debug!(%error, "unspent leases are lost");
        }
    }

    /// Judges many checks by `deadline`, each on its own, in order.
    pub async fn judge_all(
        &self,
        checks: &[Charges],
        deadline: Instant,
    ) -> Vec<Result<StoreVerdict, StoreError>> {
        let Route::Direct(queue) = &self.route else {
            // Each to its slot. Those of one subject stay in order; they go together all the same.
            return join_all(checks.iter().map(|check| self.judge(check, deadline))).await;
        };
        let work = |chunk: &[Charges]| Work { checks: chunk.into(), ..Work::default() };
        let sent: Vec<_> = checks
            .chunks(MAX_BATCH)
            .map(|chunk| (chunk.len(), queue.send(work(chunk), deadline)))
            .collect();
        let mut answers = Vec::with_capacity(checks.len());
        for (count, sent) in sent {
            match sent {
                Ok(chunk) => answers
                    .extend(receive_results(chunk, count).await.into_iter().map(into_store_result)),
                Err(error) => answers.extend(std::iter::repeat_n(Err(error), count)),
            }
        }
        answers
    }

    /// Gives back what was charged and not used, together with whatever checks are on their way.
    ///
    /// # Errors
    /// Where Redis perhaps did not do so.
    pub async fn refund(&self, refunds: Vec<Refund>, deadline: Instant) -> Result<(), StoreError> {
        let queue = match &self.route {
            Route::Direct(queue) => queue,
            Route::Sharded(router) => return router.refund(refunds, deadline).await,
        };
        let work = |chunk: &[Refund]| Work { refunds: chunk.into(), ..Work::default() };
        let sent: Vec<_> =
            refunds.chunks(MAX_BATCH).map(|chunk| queue.send(work(chunk), deadline)).collect();
        let mut done = Ok(());
        for sent in sent {
            // An answer comes only where it failed.
            let result = match sent {
                Ok(chunk) => receive_results(chunk, 0)
                    .await
                    .pop()
                    .map_or(Ok(()), |why| into_store_result(why).map(drop)),
                Err(error) => Err(error),
            };
            done = done.and(result);
        }
        done
    }

    /// What Redis' clock shows, as far as known.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.redis.clock.now()
    }

    /// Whether any of the node's connections is given up for now.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.redis.open_breakers.load(Ordering::Relaxed) > 0
    }
}

/// An answer of a server that is the only one.
fn into_store_result(answer: Result<StoreVerdict, CallError>) -> Result<StoreVerdict, StoreError> {
    answer.map_err(|error| match error {
        CallError::Failed(error) => error,
        CallError::Redirected(_) => super::errors::wrong_scheme_error(),
    })
}

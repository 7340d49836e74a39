//! A client's way to one server: the queue in front of its task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::{SmallVec, smallvec};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::limit::{Charges, Refund};
use crate::store::StoreVerdict;
use crate::store::redis::cluster::Redirect;
use crate::store::redis::{Redis, StoreError};

/// Jobs that may wait.
const QUEUE_CAPACITY: usize = 4096;

/// Checks that were asked together, or refunds, and where the results go. The refunds of one job
/// are of subjects that lie together.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) deadline: Instant,
    pub(super) results: oneshot::Sender<JobResults>,
}

/// What is to be done.
#[derive(Clone, Default)]
pub(super) struct Work {
    pub(super) checks: SmallVec<[Charges; 1]>,
    pub(super) refunds: Vec<Refund>,
    /// Whether the slot is on its way to the server: it has to be told.
    pub(super) is_asking: bool,
}

/// Why a check has no verdict.
#[derive(Clone, Debug)]
pub(super) enum CallError {
    /// It failed.
    Failed(StoreError),
    /// It has not run: a Cluster has its keys elsewhere.
    Redirected(Redirect),
}

impl Job {
    /// Answers all checks with the same error.
    pub(super) fn fail(self, error: &StoreError) {
        let failed = Err(CallError::Failed(error.clone()));
        let _nobody_waits = self.results.send(smallvec![failed; self.work.checks.len().max(1)]);
    }
}

/// For each check of a job; for refunds something only where they failed.
pub(super) type JobResults = SmallVec<[Result<StoreVerdict, CallError>; 1]>;

/// A client's way to one server; cheap to clone, and all clones are one.
#[derive(Clone)]
pub(super) struct Queue {
    jobs: mpsc::Sender<Job>,
    redis: Arc<Redis>,
    breaker_open: Arc<AtomicBool>,
}

impl Queue {
    /// A queue, and where its jobs arrive; whoever takes them says in `breaker_open` whether it can.
    pub(super) fn new(
        redis: Arc<Redis>,
        breaker_open: Arc<AtomicBool>,
    ) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, receiver) = mpsc::channel(QUEUE_CAPACITY);
        (Self { jobs, redis, breaker_open }, receiver)
    }

    /// Whether the connection is given up for now.
    pub(super) fn is_breaker_open(&self) -> bool {
        self.breaker_open.load(Ordering::Relaxed)
    }

    /// Has work done by `deadline`.
    pub(super) fn send(
        &self,
        work: Work,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<JobResults>, StoreError> {
        if self.is_breaker_open() {
            return Err(StoreError::Unreachable("the connection is given up for now".into()));
        }
        let (results, receiver) = oneshot::channel();
        self.jobs.try_send(Job { work, deadline, results }).map_err(|_| {
            self.redis.metrics.record_store_error(StoreError::Overloaded.kind());
            StoreError::Overloaded
        })?;
        Ok(receiver)
    }
}

/// The task answers every job by its deadline; no timer is needed here.
pub(super) async fn receive_results(
    results: oneshot::Receiver<JobResults>,
    count: usize,
) -> JobResults {
    let ended = || {
        let ended = StoreError::Unreachable("the lane has ended".into());
        smallvec![Err(CallError::Failed(ended)); count.max(1)]
    };
    results.await.unwrap_or_else(|_| ended())
}

//! A lane's way to one server: the queue in front of its driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::{SmallVec, smallvec};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::limit::{Charges, Refund};
use crate::store::Answer;
use crate::store::redis::cluster::Redirect;
use crate::store::redis::{Error, Redis};

/// Jobs that may wait.
const QUEUE: usize = 4096;

/// Checks that were asked together, or refunds, and where the answers go. The refunds of one job
/// are of subjects that lie together.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) deadline: Instant,
    pub(super) answers: oneshot::Sender<Answers>,
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
pub(super) enum Unjudged {
    /// It failed.
    Failed(Error),
    /// It has not run: a Cluster has its keys elsewhere.
    Elsewhere(Redirect),
}

impl Job {
    /// Answers all checks with the same error.
    pub(super) fn fail(self, error: &Error) {
        let failed = Err(Unjudged::Failed(error.clone()));
        let _nobody_waits = self.answers.send(smallvec![failed; self.work.checks.len().max(1)]);
    }
}

/// For each check of a job; for refunds something only where they failed.
pub(super) type Answers = SmallVec<[Result<Answer, Unjudged>; 1]>;

/// A lane's way to one server; cheap to clone, and all clones are one.
#[derive(Clone)]
pub(super) struct Wire {
    jobs: mpsc::Sender<Job>,
    redis: Arc<Redis>,
    lost: Arc<AtomicBool>,
}

impl Wire {
    /// A wire, and where its jobs arrive; whoever takes them says in `lost` whether it can.
    pub(super) fn new(redis: Arc<Redis>, lost: Arc<AtomicBool>) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        (Self { jobs, redis, lost }, queue)
    }

    /// Whether the connection is given up for now.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Has work done by `deadline`.
    pub(super) fn send(
        &self,
        work: Work,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Answers>, Error> {
        if self.is_lost() {
            return Err(Error::Unreachable("the connection is given up for now".into()));
        }
        let (answers, receiver) = oneshot::channel();
        self.jobs.try_send(Job { work, deadline, answers }).map_err(|_| {
            self.redis.metrics.record_store_error(Error::Overloaded.kind());
            Error::Overloaded
        })?;
        Ok(receiver)
    }
}

/// The driver answers every job by its deadline; no timer is needed here.
pub(super) async fn receive(answers: oneshot::Receiver<Answers>, count: usize) -> Answers {
    let ended = || {
        let ended = Error::Unreachable("the lane has ended".into());
        smallvec![Err(Unjudged::Failed(ended)); count.max(1)]
    };
    answers.await.unwrap_or_else(|_| ended())
}

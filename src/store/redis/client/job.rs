//! A job: the checks or refunds of one caller, and the channel for their results.
//!
//! `connection_task` queues jobs, and `commit` sends them to Redis.

use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limit::{Charges, Refund, Subject};
use crate::store::redis::StoreError;
use crate::store::redis::redirect::Redirect;
use crate::store::{CheckContext, StoreVerdict};

/// The checks or refunds of one caller, and the channel for their results. In a Cluster all refunds
/// of one job have the same hash tag.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) deadline: Instant,
    pub(super) results: oneshot::Sender<JobResults>,
}

/// A check to send, with the context of its request.
#[derive(Clone)]
pub(super) struct QueuedCheck {
    pub(super) charges: Charges,
    pub(super) context: CheckContext,
}

/// The checks and refunds to send.
#[derive(Clone, Default)]
pub(super) struct Work {
    pub(super) checks: SmallVec<[QueuedCheck; 1]>,
    pub(super) refunds: Vec<Refund>,
    /// True if the slot is being moved to the server: an ASKING must come before the call.
    pub(super) is_asking: bool,
}

/// The reason why a check has no verdict.
#[derive(Clone, Debug)]
pub(super) enum CallError {
    /// The call failed.
    Failed(StoreError),
    /// The call has not run: another server of the Cluster has its keys.
    Redirected(Redirect),
}

impl Work {
    /// The subject of the first check's first charge, else of the first refund.
    pub(super) fn first_subject(&self) -> Option<Subject> {
        let charges = self.checks.iter().flat_map(|check| &check.charges);
        let refunded = self.refunds.iter().map(|refund| &refund.charge);
        charges.chain(refunded).next().map(|charge| charge.subject)
    }
}

impl Job {
    /// Sends the same error as the result of all checks.
    pub(super) fn fail(self, error: &StoreError) {
        let failed = Err(CallError::Failed(error.clone()));
        let _caller_may_be_gone =
            self.results.send(smallvec![failed; self.work.checks.len().max(1)]);
    }
}

/// The results of a job: one for each check, and for refunds only an error if they failed.
pub(super) type JobResults = SmallVec<[Result<StoreVerdict, CallError>; 1]>;

/// Waits for the results of `count` checks. No timeout is needed here, because the connection task
/// sends results by the job's deadline.
pub(super) async fn receive_results(
    results: oneshot::Receiver<JobResults>,
    count: usize,
) -> JobResults {
    let ended = || {
        let ended = StoreError::Unreachable("the connection task has ended".into());
        smallvec![Err(CallError::Failed(ended)); count.max(1)]
    };
    results.await.unwrap_or_else(|_| ended())
}

//! A job of a connection: checks or refunds that one caller has sent, and the way back for results.
//!
//! Queues carry jobs and commits do them; neither is here.

use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limit::{Charges, Refund, Subject};
use crate::store::StoreVerdict;
use crate::store::redis::StoreError;
use crate::store::redis::redirect::Redirect;

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

impl Work {
    /// The subject of the first check's first charge, else of the first refund.
    pub(super) fn first_subject(&self) -> Option<Subject> {
        let charges = self.checks.iter().flatten();
        let refunded = self.refunds.iter().map(|refund| &refund.charge);
        charges.chain(refunded).next().map(|charge| charge.subject)
    }
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

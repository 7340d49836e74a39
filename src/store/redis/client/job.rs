//! A job: the checks or refunds of one request, and the channel for their results. A check may open
//! or adjust a reservation.
//!
//! `queue` holds jobs, and `commit` sends them to Redis.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limit::{Adjustment, Charges, NewReservation, Refund, Subject};
use crate::store::redis::StoreError;
use crate::store::redis::redirect::Redirect;
use crate::store::{AdjustReply, CheckContext, ReserveReply, StoreVerdict};

/// The checks or refunds of one caller, and the time until which it waits for their results. In a
/// Cluster all refunds of one job have the same hash tag.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) deadline: Instant,
}

/// A job, and the channel for its results.
pub(super) struct QueuedJob {
    pub(super) job: Job,
    pub(super) results: oneshot::Sender<JobResults>,
}

/// A check to send, with the context of its request.
#[derive(Clone)]
pub(super) struct QueuedCheck {
    /// The charges; of an adjustment looks at its counters.
    pub(super) charges: Charges,
    pub(super) context: CheckContext,
    pub(super) operation: Option<Arc<Operation>>,
}

/// An operation on a reservation.
pub(super) enum Operation {
    /// Judges the check and opens a reservation if it is allowed.
    Reserve(NewReservation),
    /// Adjusts the charges of a reservation.
    Adjust(Adjustment),
    /// Judges the check, or one that opens a reservation, and writes nothing.
    DryRun(Option<NewReservation>),
}

/// The result of a check.
#[derive(Clone)]
pub(super) enum CheckResult {
    /// A check was judged.
    Verdict(StoreVerdict),
    /// A reservation was opened, or not; or neither, by a dry run.
    Reserved(Box<ReserveReply>),
    /// A reservation was adjusted, or not found.
    Adjusted(Box<AdjustReply>),
}

impl CheckResult {
    /// The verdict on a check without an operation.
    pub(super) fn into_verdict(self) -> Result<StoreVerdict, StoreError> {
        match self {
            Self::Verdict(verdict) => Ok(verdict),
            Self::Reserved(_) | Self::Adjusted(_) => Err(wrong_result()),
        }
    }
}

/// The error of a result of another kind than its check asks for.
pub(super) fn wrong_result() -> StoreError {
    StoreError::BadReply("a result is of another kind than its check".into())
}

impl QueuedCheck {
    /// A check without an operation.
    pub(super) fn new(charges: &Charges, context: &CheckContext) -> Self {
        Self { charges: charges.clone(), context: context.clone(), operation: None }
    }

    /// True if days of usage may have to be kept before it is written.
    pub(super) fn may_roll_over(&self) -> bool {
        !matches!(self.operation.as_deref(), Some(Operation::DryRun(_)))
    }

    /// The subject whose hash tag all its keys have.
    pub(super) fn subject(&self) -> Option<Subject> {
        let adjusted = match self.operation.as_deref() {
            Some(Operation::Adjust(adjustment)) => adjustment.charges.first(),
            Some(Operation::Reserve(_) | Operation::DryRun(_)) | None => None,
        };
        let charged = || self.charges.first().map(|charge| charge.subject);
        adjusted.map(|charge| charge.subject).or_else(charged)
    }

    /// The Redis keys of its subjects, for logs.
    pub(super) fn redis_keys(&self) -> String {
        let mut subjects: Vec<Subject> = match self.operation.as_deref() {
            Some(Operation::Adjust(adjustment)) => {
                adjustment.charges.iter().map(|charge| charge.subject).collect()
            }
            Some(Operation::Reserve(_) | Operation::DryRun(_)) | None => {
                self.charges.iter().map(|charge| charge.subject).collect()
            }
        };
        subjects.dedup();
        let keys: Vec<String> = subjects.iter().map(Subject::redis_key).collect();
        keys.join(" ")
    }
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
    /// The number of checks and refunds.
    pub(super) fn items(&self) -> usize {
        self.checks.len() + self.refunds.len()
    }

    /// The number of charges that a script call with this work makes, adjusts or refunds.
    pub(super) fn charges(&self) -> usize {
        let of_check = |check: &QueuedCheck| match check.operation.as_deref() {
            Some(Operation::Adjust(adjustment)) => adjustment.charges.len(),
            Some(Operation::Reserve(_) | Operation::DryRun(_)) | None => check.charges.len(),
        };
        self.checks.iter().map(of_check).sum::<usize>() + self.refunds.len()
    }

    /// The subject of the first check's first charge, else of the first refund.
    pub(super) fn first_subject(&self) -> Option<Subject> {
        let refunded = self.refunds.iter().map(|refund| refund.charge.subject);
        self.checks.iter().filter_map(QueuedCheck::subject).chain(refunded).next()
    }
}

impl QueuedJob {
    /// Ends a job that is not sent, with `error` if its caller still waits: a client that has left
    /// is no failure, and must not be counted as one.
    pub(super) fn withdraw(self, error: impl Fn() -> StoreError) {
        if !self.results.is_closed() {
            self.fail(&error());
        }
    }

    /// Sends the same error as the result of all checks.
    pub(super) fn fail(self, error: &StoreError) {
        send_error(self.results, &self.job.work, error);
    }
}

/// Sends the same error as the result of all checks of `work`.
pub(super) fn send_error(results: oneshot::Sender<JobResults>, work: &Work, error: &StoreError) {
    let failed = Err(CallError::Failed(error.clone()));
    let _caller_may_be_gone = results.send(smallvec![failed; work.checks.len().max(1)]);
}

/// The results of a job: one for each check, and for refunds only an error if they failed.
pub(super) type JobResults = SmallVec<[Result<CheckResult, CallError>; 1]>;

/// Waits for the results of `count` checks. No timeout is needed here, because the connection task
/// sends results by the job's deadline, or gives up the connection and the jobs with it.
pub(super) async fn receive_results(
    results: oneshot::Receiver<JobResults>,
    count: usize,
) -> JobResults {
    let ended = || {
        let ended = StoreError::Unreachable("the connection was given up".into());
        smallvec![Err(CallError::Failed(ended)); count.max(1)]
    };
    results.await.unwrap_or_else(|_| ended())
}

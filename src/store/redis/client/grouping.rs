//! Jobs to script calls and back: jobs are divided into groups, one for each script call, and the
//! groups' results are sent to the jobs.
//!
//! On a single server one script call carries all jobs. In a Cluster the keys of a call must lie in
//! one slot, so there is a call for each hash tag, and one pipeline carries all calls. Calls are
//! not grouped by slot, because a call for several hash tags would fail for as long as their slot
//! is being moved.

use std::collections::HashMap;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::job::{CallError, CheckResult, Job, JobResults, QueuedCheck};
use crate::limit::{Refund, Subject};
use crate::store::redis::StoreError;

/// A check of a script call.
#[derive(Clone, Copy)]
pub(super) struct GroupedCheck<'j> {
    pub(super) check: &'j QueuedCheck,
    /// The time until which its caller waits for the result.
    pub(super) deadline: Instant,
}

/// The checks and refunds of one script call.
#[derive(Default)]
pub(super) struct CallGroup<'j> {
    pub(super) checks: Vec<GroupedCheck<'j>>,
    pub(super) refunds: Vec<&'j Refund>,
    pub(super) is_asking: bool,
}

/// The outcome of one script call: the result of each of its checks, or an error of the whole call.
pub(super) type GroupOutcome = Result<Vec<Result<CheckResult, CallError>>, CallError>;

/// Divides jobs into groups. Also returns, for each check and for each job's refunds, in order, the
/// index of its group; without `by_hash_tag` there is one group and no indices.
pub(super) fn group_calls(jobs: &[Job], by_hash_tag: bool) -> (Vec<CallGroup<'_>>, Vec<usize>) {
    if !by_hash_tag {
        let checks = jobs.iter().flat_map(|Job { work, deadline }| {
            work.checks.iter().map(|check| GroupedCheck { check, deadline: *deadline })
        });
        let checks = checks.collect();
        let refunds = jobs.iter().flat_map(|job| &job.work.refunds).collect();
        return (vec![CallGroup { checks, refunds, is_asking: false }], Vec::new());
    }
    let mut grouping = Grouping::default();
    for Job { work, deadline } in jobs {
        for check in &work.checks {
            let group = grouping.group_for(check.subject(), work.is_asking);
            group.checks.push(GroupedCheck { check, deadline: *deadline });
        }
        if let Some(first) = work.refunds.first() {
            let group = grouping.group_for(Some(first.charge.subject), work.is_asking);
            group.refunds.extend(&work.refunds);
        }
    }
    (grouping.groups, grouping.positions)
}

/// The groups while [`group_calls`] fills them.
#[derive(Default)]
struct Grouping<'j> {
    groups: Vec<CallGroup<'j>>,
    positions: Vec<usize>,
    by_tag: HashMap<(Option<[u8; 22]>, bool), usize>,
}

impl<'j> Grouping<'j> {
    /// The group of the next check or of the next job's refunds.
    fn group_for(&mut self, subject: Option<Subject>, is_asking: bool) -> &mut CallGroup<'j> {
        let tag = subject.map(|subject| subject.hash_tag());
        let position = *self.by_tag.entry((tag, is_asking)).or_insert_with(|| {
            self.groups.push(CallGroup { is_asking, ..CallGroup::default() });
            self.groups.len() - 1
        });
        self.positions.push(position);
        &mut self.groups[position]
    }
}

/// Sends every job that still waits its results, from the outcomes of the groups and the positions
/// of [`group_calls`].
pub(super) fn send_results(
    jobs: &[Job],
    results: Vec<Option<oneshot::Sender<JobResults>>>,
    outcomes: Vec<GroupOutcome>,
    positions: &[usize],
) {
    let mut outcomes: Vec<_> =
        outcomes.into_iter().map(|outcome| outcome.map(Vec::into_iter)).collect();
    let mut positions = positions.iter().copied();
    for (job, results) in jobs.iter().zip(results) {
        let mut job_results = JobResults::new();
        for _ in &job.work.checks {
            job_results.push(match outcomes.get_mut(positions.next().unwrap_or(0)) {
                Some(Ok(results)) => results.next().unwrap_or_else(|| Err(missing_reply())),
                Some(Err(error)) => Err(error.clone()),
                None => Err(missing_reply()),
            });
        }
        if !job.work.refunds.is_empty()
            && let Some(Err(error)) = outcomes.get(positions.next().unwrap_or(0))
        {
            job_results.push(Err(error.clone()));
        }
        if let Some(results) = results {
            let _caller_may_be_gone = results.send(job_results);
        }
    }
}

/// The error of a check for which the reply has no result.
pub(super) fn missing_reply() -> CallError {
    CallError::Failed(StoreError::BadReply("a check has no result".into()))
}

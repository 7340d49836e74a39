//! One call in flight, and the jobs that it carries.
//!
//! Each job waits for its results until its own deadline, and the call goes on for the others. It
//! goes on as well if no job waits any more, since its reply shows that Redis still replies; but
//! then nothing of it is sent again. Nothing here waits: `calls_in_flight` polls a call when it
//! has replies, and says when deadlines have passed.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::commit::{self, CommitOutcome};
use super::grouping::{group_calls, send_results};
use super::job::{CallError, Job, JobResults, QueuedJob, send_error};
use crate::store::redis::connection::{CallId, Commands};
use crate::store::redis::instance::RedisInstance;
use crate::store::redis::{Redis, StoreError};

/// The jobs of one call.
pub(super) struct Batch {
    jobs: Vec<Job>,
    /// The channel for the results of each job; `None` once its deadline has passed.
    results: Vec<Option<oneshot::Sender<JobResults>>>,
    charges: usize,
}

/// A call whose commands have been sent.
pub(super) struct CallInFlight {
    pub(super) id: CallId,
    /// True if more jobs waited than the call carries.
    pub(super) has_backlog: bool,
    jobs: Arc<Vec<Job>>,
    results: Vec<Option<oneshot::Sender<JobResults>>>,
    charges: usize,
    /// The first deadline of a job that still waits.
    next_deadline: Option<Instant>,
    has_expired: bool,
    commit: BoxFuture<'static, (CommitOutcome, Vec<usize>)>,
}

/// A call that has ended.
pub(super) struct CallEnd {
    /// The errors of what failed as a whole; a reply that was late is none.
    pub(super) failures: Vec<CallError>,
    /// The time until the first reply; `None` if there was none.
    pub(super) round_trip: Option<Duration>,
    /// True if any job still waited for its results.
    pub(super) in_time: bool,
    /// The charges of the call.
    pub(super) charges: usize,
}

impl Batch {
    /// No jobs yet.
    pub(super) fn with_capacity(jobs: usize) -> Self {
        Self { jobs: Vec::with_capacity(jobs), results: Vec::with_capacity(jobs), charges: 0 }
    }

    /// Adds a job with this number of charges.
    pub(super) fn push(&mut self, queued: QueuedJob, charges: usize) {
        self.jobs.push(queued.job);
        self.results.push(Some(queued.results));
        self.charges += charges;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn charges(&self) -> usize {
        self.charges
    }
}

impl CallInFlight {
    /// A call of all jobs of `batch` together. Its commands are sent when it is polled.
    pub(super) fn new(
        id: CallId,
        batch: Batch,
        has_backlog: bool,
        redis: &Arc<Redis>,
        server: &Arc<RedisInstance>,
        commands: Commands,
    ) -> Self {
        let Batch { jobs, results, charges } = batch;
        let deadlines = || jobs.iter().map(|job| job.deadline);
        let (next_deadline, until) = (deadlines().min(), deadlines().max());
        let jobs = Arc::new(jobs);
        let (redis, server, committed) = (Arc::clone(redis), Arc::clone(server), Arc::clone(&jobs));
        let commit = Box::pin(async move {
            let until = until.unwrap_or_else(Instant::now);
            let (groups, positions) = group_calls(&committed, redis.topology.is_sharded());
            let outcome = commit::run(&redis, &server, &groups, until, &commands).await;
            (outcome, positions)
        });
        let has_expired = false;
        Self { id, has_backlog, jobs, results, charges, next_deadline, has_expired, commit }
    }

    /// The first deadline of a job that still waits; `None` if none does.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Sends commands, reads replies, and at the end sends the jobs their results.
    pub(super) fn poll(&mut self) -> Option<CallEnd> {
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready((committed, positions)) = self.commit.as_mut().poll(&mut context) else {
            return None;
        };
        let results = std::mem::take(&mut self.results);
        let in_time = results.iter().any(Option::is_some);
        send_results(&self.jobs, results, committed.outcomes, &positions);
        let CommitOutcome { failures, round_trip, .. } = committed;
        Some(CallEnd { failures, round_trip, in_time, charges: self.charges })
    }

    /// Sends `error` to the jobs whose deadline has passed. Returns true if they are the first.
    pub(super) fn expire(&mut self, now: Instant, error: &StoreError) -> bool {
        if self.next_deadline.is_none_or(|deadline| now < deadline) {
            return false;
        }
        self.next_deadline = None;
        for (job, results) in self.jobs.iter().zip(&mut self.results) {
            if job.deadline > now && results.is_some() {
                let next = self.next_deadline.get_or_insert(job.deadline);
                *next = job.deadline.min(*next);
            } else if let Some(results) = results.take() {
                send_error(results, &job.work, error);
            }
        }
        !std::mem::replace(&mut self.has_expired, true)
    }
}

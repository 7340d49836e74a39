//! One call in flight, and the jobs that it carries.
//!
//! Each job waits for its results until its own deadline, and the call goes on for the others. It
//! goes on as well if no job waits any more, since its reply shows that Redis still replies; but
//! then nothing of it is sent again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::aio::MultiplexedConnection;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::commit;
use super::grouping::{group_calls, send_results};
use super::job::{CallError, Job, JobResults, QueuedJob, send_error};
use super::silence::Silence;
use crate::store::redis::instance::RedisInstance;
use crate::store::redis::{Redis, StoreError};

/// The jobs of one call.
pub(super) struct Batch {
    jobs: Vec<Job>,
    /// The channel for the results of each job; `None` once its deadline has passed.
    results: Vec<Option<oneshot::Sender<JobResults>>>,
    charges: usize,
}

/// The connection that carries a call.
pub(super) struct CallRoute {
    pub(super) redis: Arc<Redis>,
    pub(super) server: Arc<RedisInstance>,
    pub(super) connection: MultiplexedConnection,
    pub(super) silence: Arc<Silence>,
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

    /// The latest deadline of a job.
    pub(super) fn latest_deadline(&self) -> Option<Instant> {
        self.jobs.iter().map(|job| job.deadline).max()
    }

    /// Commits all jobs together and sends them their results. With `has_backlog`, more jobs waited
    /// than the call carries.
    pub(super) async fn run(self, route: CallRoute, has_backlog: bool) -> CallEnd {
        let until = self.latest_deadline().unwrap_or_else(Instant::now);
        let Self { jobs, mut results, charges } = self;
        let CallRoute { redis, server, mut connection, silence } = route;
        let (groups, positions) = group_calls(&jobs, redis.topology.is_sharded());
        let mut committing = pin!(commit::run(&redis, &server, &groups, until, &mut connection));
        let mut is_counted = false;
        let committed = loop {
            let Some(deadline) = next_deadline(&jobs, &results) else {
                break committing.await;
            };
            if let Some(committed) = reply_by(deadline, committing.as_mut()).await {
                break committed;
            }
            let now = Instant::now();
            let error = late_error(&redis, &silence, has_backlog, now);
            if !std::mem::replace(&mut is_counted, true) {
                redis.metrics.record_store_error(error.kind());
            }
            for (job, results) in jobs.iter().zip(&mut results) {
                if job.deadline <= now
                    && let Some(results) = results.take()
                {
                    send_error(results, &job.work, &error);
                }
            }
        };
        let in_time = results.iter().any(Option::is_some);
        send_results(&jobs, results, committed.outcomes, &positions);
        let round_trip = committed.round_trip;
        CallEnd { failures: committed.failures, round_trip, in_time, charges }
    }
}

/// The first deadline of a job that still waits.
fn next_deadline(jobs: &[Job], results: &[Option<oneshot::Sender<JobResults>>]) -> Option<Instant> {
    let waiting = jobs.iter().zip(results).filter(|(_, results)| results.is_some());
    waiting.map(|(job, _)| job.deadline).min()
}

/// The error of a check whose call has no reply by the check's deadline. Behind a backlog it was
/// sent late: that is the node's overload, as long as Redis replies.
fn late_error(redis: &Redis, silence: &Silence, has_backlog: bool, now: Instant) -> StoreError {
    if has_backlog && silence.is_short(redis.deadline, now) {
        return StoreError::Overloaded;
    }
    StoreError::Timeout
}

/// The reply of a call that has it by `deadline`; else it is `None`.
///
/// A flood can keep this node's runtime from sending the call, or from reading a reply that is
/// there. That is no silence of Redis, so the connection has a few more turns first. If the node
/// has nothing else to do, they take no time.
async fn reply_by<F: Future + Unpin>(deadline: Instant, mut call: F) -> Option<F::Output> {
    // Sends the call, waits for the socket, reads the reply, and passes it on.
    const TURNS: usize = 4;
    if let Ok(reply) = timeout_at(deadline, &mut call).await {
        return Some(reply);
    }
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
        if let Some(reply) = (&mut call).now_or_never() {
            return Some(reply);
        }
    }
    None
}

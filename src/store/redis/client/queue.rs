//! The queue of jobs to one connection: the callers' end, and the end of the connection's task,
//! which takes the jobs of a call out together.
//!
//! A job that waits until its deadline is withdrawn here. When a call is sent is decided in
//! `connection_task`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::breaker::Breaker;
use super::call_in_flight::Batch;
use super::job::{Job, JobResults, QueuedJob, Work};
use super::{MAX_BATCH, MAX_CALL_CHARGES};
use crate::store::redis::{Redis, StoreError};

/// The most jobs that wait for one connection.
const QUEUE_CAPACITY: usize = 4096;

/// The callers' end. Clones are cheap and share the queue.
#[derive(Clone)]
pub(super) struct Queue {
    jobs: mpsc::Sender<QueuedJob>,
    redis: Arc<Redis>,
    breaker: Arc<Breaker>,
}

/// The end of the connection's task.
pub(super) struct WaitingJobs {
    jobs: mpsc::Receiver<QueuedJob>,
    /// Jobs that have arrived and wait for the next call; fewer than two calls' worth.
    next: VecDeque<QueuedJob>,
}

impl Queue {
    /// Both ends of an empty queue, which takes jobs while `breaker` is closed.
    pub(super) fn new(redis: &Arc<Redis>, breaker: &Arc<Breaker>) -> (Self, WaitingJobs) {
        let (sender, jobs) = mpsc::channel(QUEUE_CAPACITY);
        let queue = Self { jobs: sender, redis: Arc::clone(redis), breaker: Arc::clone(breaker) };
        (queue, WaitingJobs { jobs, next: VecDeque::new() })
    }

    /// Enqueues work whose results are needed by `deadline`.
    pub(super) fn send(
        &self,
        work: Work,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<JobResults>, StoreError> {
        if self.breaker.is_open() {
            return Err(StoreError::Unreachable("the circuit breaker is open".into()));
        }
        let (results, receiver) = oneshot::channel();
        let job = Job { work, deadline };
        self.jobs.try_send(QueuedJob { job, results }).map_err(|_| {
            self.redis.metrics.record_store_error(StoreError::Overloaded.kind());
            StoreError::Overloaded
        })?;
        Ok(receiver)
    }
}

impl WaitingJobs {
    /// Waits for a further job. Returns false if every clone of the queue was dropped. Cancel safe.
    pub(super) async fn arrival(&mut self) -> bool {
        let Some(first) = self.jobs.recv().await else { return false };
        self.next.push_back(first);
        while self.next.len() < MAX_BATCH
            && let Ok(job) = self.jobs.try_recv()
        {
            self.next.push_back(job);
        }
        true
    }

    /// True if no job has been taken out of the channel.
    pub(super) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// True if so many jobs wait that nothing is gained by waiting for more.
    pub(super) fn fills_call(&self) -> bool {
        self.next.len() >= MAX_BATCH
    }

    /// True if any job waits.
    pub(super) fn has_jobs(&self) -> bool {
        !self.next.is_empty() || !self.jobs.is_empty()
    }

    /// The number of jobs that wait.
    pub(super) fn len(&self) -> usize {
        self.next.len() + self.jobs.len()
    }

    /// True if every clone of the queue was dropped.
    pub(super) fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }

    /// The deadline of the job that waits longest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next.front().map(|queued| queued.job.deadline)
    }

    /// Withdraws the jobs that have waited longest and whose deadline has passed.
    pub(super) fn withdraw_expired(&mut self, now: Instant, error: impl Fn() -> StoreError) {
        while self.next_deadline().is_some_and(|deadline| deadline <= now)
            && let Some(expired) = self.next.pop_front()
        {
            expired.withdraw(&error);
        }
    }

    /// Takes out the jobs of one call: up to [`MAX_BATCH`] checks and `room` charges, with
    /// `at_least_one` job whatever its charges. Jobs whose caller no longer waits are dropped,
    /// and withdrawn with `error` if their deadline has passed.
    pub(super) fn take_batch(
        &mut self,
        room: usize,
        at_least_one: bool,
        deadline: Duration,
        error: impl Fn() -> StoreError,
    ) -> Batch {
        let waiting = self.len();
        let mut batch = Batch::with_capacity(waiting.min(MAX_BATCH));
        // While more checks wait than a call carries, those that had the longest wait would not
        // have their reply in time.
        let is_backlogged = waiting > MAX_BATCH;
        let latest = Instant::now() + if is_backlogged { deadline / 4 } else { Duration::ZERO };
        let (room, mut checks) = (room.min(MAX_CALL_CHARGES), 0);
        while checks < MAX_BATCH
            && let Some(queued) = self.next.pop_front().or_else(|| self.jobs.try_recv().ok())
        {
            if queued.results.is_closed() || queued.job.deadline <= latest {
                queued.withdraw(&error);
                continue;
            }
            let charges = queued.job.work.charges();
            if batch.charges() + charges > room && !(at_least_one && batch.is_empty()) {
                self.next.push_front(queued);
                break;
            }
            checks += queued.job.work.items();
            batch.push(queued, charges);
        }
        batch
    }

    /// Fails every job that waits.
    pub(super) fn fail_all(&mut self, error: &StoreError) {
        while let Some(queued) = self.next.pop_front().or_else(|| self.jobs.try_recv().ok()) {
            queued.fail(error);
        }
    }
}

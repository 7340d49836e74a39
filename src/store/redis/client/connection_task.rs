//! The task that owns one connection, and the queue of jobs to it.
//!
//! While the task has no connection its circuit breaker is open: every check fails at once, and
//! only this task tries to reconnect. After a failover the same task connects to the new primary.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::breaker::Breaker;
use super::commit;
use super::grouping::{group_calls, send_results};
use super::job::{CallError, Job, JobResults, Work};
use super::{MAX_BATCH, MAX_CALL_CHARGES};
use crate::store::redis::connection::LiveConnection;
use crate::store::redis::instance::RedisInstance;
use crate::store::redis::redirect::Redirect;
use crate::store::redis::topology::PrimaryWatch;
use crate::store::redis::{Redis, StoreError};

/// The most jobs that wait for one connection.
const QUEUE_CAPACITY: usize = 4096;

/// The time without any reply until the circuit breaker opens, as a multiple of the deadline. TCP
/// alone takes minutes to notice that a peer is gone. It is a time and not a number of calls,
/// because under load a call has only part of a deadline: its checks have waited for the call
/// before.
const MAX_UNANSWERED_DEADLINES: f64 = 2.5;
/// The shortest and the longest backoff between attempts to connect. Recovery takes less than 1 s.
const RECONNECT_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_millis(250));
/// The longest timeout of an attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The queue of jobs to one primary. Clones are cheap and share the queue.
#[derive(Clone)]
pub(super) struct Queue {
    jobs: mpsc::Sender<Job>,
    redis: Arc<Redis>,
    breaker: Arc<Breaker>,
}

/// The owner of one connection.
pub(super) struct ConnectionTask {
    redis: Arc<Redis>,
    primary: PrimaryWatch,
    /// The server of the `live` connection, or of the last attempt to connect.
    server: Arc<RedisInstance>,
    probe_requests: watch::Receiver<()>,
    jobs: mpsc::Receiver<Job>,
    /// The next job, which had no room in the last request.
    held: Option<Job>,
    breaker: Arc<Breaker>,
    live: Option<LiveConnection>,
    /// The time spent waiting for replies since the last reply.
    unanswered_for: Duration,
    /// The time to wait before the next attempt to connect. It grows with each connection on which
    /// no call has succeeded: such a server can be reached, but not used.
    backoff: Duration,
    /// True if the log says that there is no connection.
    is_loss_logged: bool,
}

impl Queue {
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
        self.jobs.try_send(Job { work, deadline, results }).map_err(|_| {
            self.redis.metrics.record_store_error(StoreError::Overloaded.kind());
            StoreError::Overloaded
        })?;
        Ok(receiver)
    }
}

impl ConnectionTask {
    /// A task that connects when it is run, and the queue to it.
    pub(super) fn with_queue(redis: &Arc<Redis>, mut primary: PrimaryWatch) -> (Queue, Self) {
        let (sender, jobs) = mpsc::channel(QUEUE_CAPACITY);
        let breaker = Arc::new(Breaker::new(redis));
        let queue = Queue { jobs: sender, redis: Arc::clone(redis), breaker: Arc::clone(&breaker) };
        let server = primary.current();
        let task = Self {
            redis: Arc::clone(redis),
            primary,
            probe_requests: server.probe_requests(),
            server,
            jobs,
            held: None,
            breaker,
            live: None,
            unanswered_for: Duration::ZERO,
            backoff: Duration::ZERO,
            is_loss_logged: true,
        };
        (queue, task)
    }

    /// Runs until every clone of the queue is dropped.
    pub(super) async fn run(mut self) {
        // Checks wait for the first connection, but not beyond their deadline.
        if self.live.is_none() && !self.breaker.is_open() {
            let _tried_again_below = self.connect(self.redis.deadline).await;
        }
        loop {
            let Some(mut live) = self.live.take() else {
                if self.reconnect().await {
                    continue;
                }
                break;
            };
            let done = tokio::select! {
                biased;
                () = live.closed() => {
                    drop(live);
                    self.replace_connection("an idle connection had ended and was replaced").await;
                    continue;
                }
                () = self.primary.changed() => {
                    drop(live);
                    self.replace_connection("another server is the primary now").await;
                    continue;
                }
                _ = self.probe_requests.changed() => {
                    // Checks that arrive during the probe do not wait beyond their deadline.
                    let connection = &mut live.connection;
                    self.redis.probe(&self.server, connection, self.redis.deadline).await
                }
                job = next_job(&mut self.held, &mut self.jobs) => match job {
                    Some(first) => {
                        let jobs = self.gather_jobs(first);
                        self.commit_jobs(jobs, &mut live.connection).await
                    }
                    None => break,
                },
            };
            match done {
                Ok(()) => self.live = Some(live),
                Err(error) => self.open_breaker(&error),
            }
        }
        self.breaker.set_open(false);
    }

    /// Opens a new connection after the last one was closed while it was idle, or after a failover.
    /// Checks that arrive meanwhile do not wait beyond their deadline.
    async fn replace_connection(&mut self, reason: &str) {
        match self.connect(self.redis.deadline).await {
            Ok(()) => tracing::debug!(server = &*self.server.address, "{reason}"),
            Err(error) => {
                self.redis.metrics.record_store_error(error.kind());
                self.open_breaker(&error);
            }
        }
    }

    /// The first job and further jobs from the queue, up to [`MAX_BATCH`] checks and
    /// [`MAX_CALL_CHARGES`] charges. Jobs whose caller no longer waits or whose deadline has passed
    /// are dropped.
    fn gather_jobs(&mut self, first: Job) -> Vec<Job> {
        let mut jobs = Vec::with_capacity(self.jobs.len().min(MAX_BATCH) + 1);
        let (mut checks, mut charges) = (0, 0);
        let mut next = Some(first);
        // While more checks wait than a call carries, those that had the longest wait would have
        // the call end too early for the others.
        let is_backlogged = self.jobs.len() > MAX_BATCH;
        let least_left = if is_backlogged { self.redis.deadline / 4 } else { Duration::ZERO };
        while let Some(job) = next {
            if job.results.is_closed() || job.deadline <= Instant::now() + least_left {
                job.fail(&self.expiry_error());
            } else {
                charges += job.work.charges();
                if charges > MAX_CALL_CHARGES && !jobs.is_empty() {
                    self.held = Some(job);
                    break;
                }
                checks += job.work.items();
                jobs.push(job);
            }
            next = if checks < MAX_BATCH { self.jobs.try_recv().ok() } else { None };
        }
        jobs
    }

    /// True unless Redis has had half a deadline for a reply, and gave none.
    fn has_replied_lately(&self) -> bool {
        self.unanswered_for < self.redis.deadline / 2
    }

    /// The error of a check whose deadline has passed before it was sent: if Redis replies, the
    /// node's own queue is too long.
    fn expiry_error(&self) -> StoreError {
        if !self.has_replied_lately() {
            return StoreError::Timeout;
        }
        self.redis.metrics.record_store_error(StoreError::Overloaded.kind());
        StoreError::Overloaded
    }

    /// Commits all jobs together. An error means that the connection must not be used again.
    async fn commit_jobs(
        &mut self,
        jobs: Vec<Job>,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), StoreError> {
        // The earliest deadline counts for all. The deadlines differ by one call's time at most.
        let Some(deadline) = jobs.iter().map(|job| job.deadline).min() else { return Ok(()) };
        let began = Instant::now();
        let has_more = self.held.is_some() || !self.jobs.is_empty();
        let (groups, positions) = group_calls(&jobs, self.redis.topology.is_sharded());
        let mut committed =
            commit::run(&self.redis, &self.server, &groups, deadline, connection).await;
        if committed.has_timed_out() {
            self.unanswered_for += began.elapsed();
            if has_more && self.has_replied_lately() {
                committed.blame_overload();
            }
        } else {
            self.unanswered_for = Duration::ZERO;
        }
        let usable = committed.failures.iter().try_for_each(|failure| self.on_failure(failure));
        if committed.failures.is_empty() {
            self.backoff = Duration::ZERO;
        }
        send_results(jobs, committed.outcomes, &positions);
        usable
    }

    /// Counts a failed call. An error means that the connection must not be used again; after a
    /// redirect it can be, because other slots are not affected.
    fn on_failure(&self, failure: &CallError) -> Result<(), StoreError> {
        match failure {
            CallError::Failed(error) if self.is_usable_after(error) => Ok(()),
            CallError::Failed(error) => Err(error.clone()),
            CallError::Redirected(redirect) => {
                let is_sharded = self.redis.topology.is_sharded();
                if *redirect == Redirect::ClusterDown || !is_sharded {
                    self.redis.metrics.record_store_error("refused");
                }
                Ok(())
            }
        }
    }

    /// Counts an error and returns true if the connection can be used again.
    fn is_usable_after(&self, error: &StoreError) -> bool {
        self.redis.metrics.record_store_error(error.kind());
        match error {
            StoreError::Timeout => {
                self.unanswered_for < self.redis.deadline.mul_f64(MAX_UNANSWERED_DEADLINES)
            }
            StoreError::Unreachable(_)
            | StoreError::Refused(_)
            | StoreError::Misconfigured(_)
            | StoreError::BadReply(_) => false,
            StoreError::Script(why) => {
                if self.redis.script_log.is_due() {
                    tracing::error!(why, "the script failed");
                }
                true
            }
            StoreError::Overloaded
            | StoreError::NewSubject(_)
            | StoreError::BadRow(_)
            | StoreError::Disk(_) => true,
        }
    }

    fn open_breaker(&mut self, error: &StoreError) {
        let (kind, server) = (error.kind(), &*self.server.address);
        let is_due = self.backoff.is_zero() || self.redis.loss_log.is_due();
        self.is_loss_logged |= is_due;
        if is_due {
            tracing::warn!(%error, kind, server, "lost the connection to Redis; plans decide by on_store_failure until it is back");
        } else {
            tracing::debug!(%error, kind, server, "Redis accepts connections, but no calls");
        }
        self.redis.metrics.breaker_opened.inc();
        self.breaker.set_open(true);
        self.server.request_probes();
        self.redis.topology.request_refresh();
    }

    /// Makes one attempt to connect, and logs its failure.
    pub(super) async fn connect_once(&mut self) {
        // The time of a few checks. The caller needs no error, because `run` tries again.
        let connect_timeout =
            CONNECT_TIMEOUT.min(self.redis.deadline.max(Duration::from_millis(50)) * 4);
        let _tried_again = self.connect(connect_timeout).await;
    }

    /// Makes one attempt to connect to the current primary.
    async fn connect(&mut self, connect_timeout: Duration) -> Result<(), StoreError> {
        self.server = self.primary.current();
        // A new connection need not be probed because of failures before it.
        self.probe_requests = self.server.probe_requests();
        match self.redis.connect(&self.server, connect_timeout).await {
            Ok(live) => {
                self.live = Some(live);
                self.unanswered_for = Duration::ZERO;
                self.breaker.set_open(false);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, server = &*self.server.address, "an attempt to connect failed");
                self.breaker.set_open(true);
                self.redis.topology.request_refresh();
                Err(error)
            }
        }
    }

    /// Tries to connect until it succeeds. Returns false if every clone of the queue was dropped.
    async fn reconnect(&mut self) -> bool {
        loop {
            // Jobs that were enqueued before the circuit breaker opened fail at once as well.
            while let Some(job) = self.held.take().or_else(|| self.jobs.try_recv().ok()) {
                job.fail(&StoreError::Unreachable("the connection was lost".into()));
            }
            if self.jobs.is_closed() {
                return false;
            }
            if !self.backoff.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(jittered(self.backoff)) => {}
                    () = self.primary.changed() => self.backoff = Duration::ZERO,
                }
            }
            self.connect_once().await;
            self.backoff = (self.backoff * 2).clamp(RECONNECT_BACKOFF.0, RECONNECT_BACKOFF.1);
            if self.live.is_some() {
                if std::mem::take(&mut self.is_loss_logged) {
                    tracing::info!(server = &*self.server.address, "Redis is back");
                }
                return true;
            }
        }
    }
}

/// The job that waits longest. Cancel safe.
async fn next_job(held: &mut Option<Job>, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
    match held.take() {
        Some(job) => Some(job),
        None => jobs.recv().await,
    }
}

/// A random time between half of `backoff` and all of it, so that nodes do not reconnect in step.
fn jittered(backoff: Duration) -> Duration {
    let part = getrandom::u32().unwrap_or_default() % 512;
    backoff.mul_f64(0.5 + f64::from(part) / 1024.0)
}

//! The task that owns one connection, and the queue to it: jobs are gathered, sent and answered.
//!
//! While the task has no connection, its circuit breaker is open: every check fails at once, and only
//! this task tries to reach Redis. A failover gives it another server, not another task.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::MAX_BATCH;
use super::breaker::Breaker;
use super::commit;
use super::grouping::{group_calls, send_results};
use super::job::{CallError, Job, JobResults, Work};
use crate::store::redis::connection::LiveConnection;
use crate::store::redis::instance::RedisInstance;
use crate::store::redis::redirect::Redirect;
use crate::store::redis::topology::PrimaryWatch;
use crate::store::redis::{Redis, StoreError};

/// Jobs that may wait for one connection.
const QUEUE_CAPACITY: usize = 4096;

/// For how many deadlines calls may go unanswered, one after the other, until a connection is given
/// up: TCP alone would wait for minutes on a peer that is gone without a word. Time is what counts,
/// not calls: under load a call has less than a deadline, since its checks waited for the one before.
const MAX_UNANSWERED_DEADLINES: f64 = 2.5;
/// The shortest and the longest wait between attempts to connect; recovery takes less than 1 s.
const RECONNECT_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_millis(250));
/// The longest that an attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The way to one primary; cheap to clone, and all clones are one queue.
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
    /// The primary that `live` leads to, or that the last attempt to connect was made to.
    server: Arc<RedisInstance>,
    probe_requests: watch::Receiver<()>,
    jobs: mpsc::Receiver<Job>,
    breaker: Arc<Breaker>,
    live: Option<LiveConnection>,
    /// The time spent waiting for replies since the last reply.
    unanswered_for: Duration,
}

impl Queue {
    /// Has work done by `deadline`.
    pub(super) fn send(
        &self,
        work: Work,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<JobResults>, StoreError> {
        if self.breaker.is_open() {
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

impl ConnectionTask {
    /// A task that connects as it starts to run, and the queue to it.
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
            breaker,
            live: None,
            unanswered_for: Duration::ZERO,
        };
        (queue, task)
    }

    /// Runs until every handle of the client is gone.
    pub(super) async fn run(mut self) {
        // Checks wait for a first connection, but no longer than they may.
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
                    self.replace_connection("an idle connection had ended; there is another one").await;
                    continue;
                }
                () = self.primary.changed() => {
                    drop(live);
                    self.replace_connection("another server is the primary now").await;
                    continue;
                }
                _ = self.probe_requests.changed() => {
                    // Checks that come meanwhile wait no longer than they may.
                    let connection = &mut live.connection;
                    self.redis.probe(&self.server, connection, self.redis.deadline).await
                }
                job = self.jobs.recv() => match job {
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

    /// Makes a new connection in the place of one that has ended while nothing was under way, or whose
    /// server is the primary no more. Checks that come meanwhile wait no longer than they may.
    async fn replace_connection(&mut self, reason: &str) {
        match self.connect(self.redis.deadline).await {
            Ok(()) => tracing::debug!(server = &*self.server.address, "{reason}"),
            Err(error) => {
                self.redis.metrics.record_store_error(error.kind());
                self.open_breaker(&error);
            }
        }
    }

    /// The first job and others that wait, up to a call's worth, without those nobody waits for.
    fn gather_jobs(&mut self, first: Job) -> Vec<Job> {
        let mut jobs = Vec::with_capacity(self.jobs.len().min(MAX_BATCH) + 1);
        let mut checks = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            if job.results.is_closed() || job.deadline <= Instant::now() {
                job.fail(&StoreError::Timeout);
            } else {
                checks += job.work.checks.len() + job.work.refunds.len();
                jobs.push(job);
            }
            next = if checks < MAX_BATCH { self.jobs.try_recv().ok() } else { None };
        }
        jobs
    }

    /// One commit of all jobs. An error means that the connection is of no more use.
    async fn commit_jobs(
        &mut self,
        jobs: Vec<Job>,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), StoreError> {
        // All are answered by the earliest deadline. They came within one call's time of each other.
        let Some(deadline) = jobs.iter().map(|job| job.deadline).min() else { return Ok(()) };
        let began = Instant::now();
        let (groups, positions) = group_calls(&jobs, self.redis.topology.is_sharded());
        let committed = commit::run(&self.redis, &self.server, &groups, deadline, connection).await;
        if committed.has_timed_out() {
            self.unanswered_for += began.elapsed();
        } else {
            self.unanswered_for = Duration::ZERO;
        }
        let usable = committed.failures.iter().try_for_each(|why| self.on_failure(why));
        send_results(jobs, committed.outcomes, &positions);
        usable
    }

    /// What a call that came to nothing says of the connection. A slot that is elsewhere says nothing
    /// of the others.
    fn on_failure(&self, why: &CallError) -> Result<(), StoreError> {
        match why {
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

    /// Counts a failed call, and says whether the connection can be used again.
    fn is_usable_after(&self, error: &StoreError) -> bool {
        self.redis.metrics.record_store_error(error.kind());
        match error {
            StoreError::Timeout => {
                self.unanswered_for < self.redis.deadline.mul_f64(MAX_UNANSWERED_DEADLINES)
            }
            StoreError::Unreachable(_) | StoreError::Refused(_) | StoreError::BadReply(_) => false,
            StoreError::Script(why) => {
                tracing::error!(why, "the script failed");
                true
            }
            StoreError::Overloaded | StoreError::BadRow(_) | StoreError::Disk(_) => true,
        }
    }

    fn open_breaker(&mut self, error: &StoreError) {
        let (kind, server) = (error.kind(), &*self.server.address);
        tracing::warn!(%error, kind, server, "Redis is given up for now; plans decide by on_store_failure");
        self.redis.metrics.breaker_opened.inc();
        self.breaker.set_open(true);
        self.server.request_probes();
        self.redis.topology.request_refresh();
    }

    /// One attempt, as the client is made.
    pub(super) async fn connect_once(&mut self) {
        // Some checks' time. The error is of no interest where another attempt follows.
        let connect_timeout =
            CONNECT_TIMEOUT.min(self.redis.deadline.max(Duration::from_millis(50)) * 4);
        let _tried_again = self.connect(connect_timeout).await;
    }

    /// One attempt to connect to the server that is the primary now.
    async fn connect(&mut self, connect_timeout: Duration) -> Result<(), StoreError> {
        self.server = self.primary.current();
        // Trouble so far is no news for a new connection; what comes from now on is.
        self.probe_requests = self.server.probe_requests();
        match self.redis.connect(&self.server, connect_timeout).await {
            Ok(live) => {
                self.live = Some(live);
                self.unanswered_for = Duration::ZERO;
                self.breaker.set_open(false);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, server = &*self.server.address, "no connection yet");
                self.breaker.set_open(true);
                self.redis.topology.request_refresh();
                Err(error)
            }
        }
    }

    /// Attempts until there is a connection; false where nobody needs one any more.
    async fn reconnect(&mut self) -> bool {
        let mut wait = RECONNECT_BACKOFF.0;
        loop {
            // Those who asked before the connection was given up are not made to wait for it.
            while let Ok(job) = self.jobs.try_recv() {
                job.fail(&StoreError::Unreachable("the connection is given up".into()));
            }
            if self.jobs.is_closed() {
                return false;
            }
            self.connect_once().await;
            if self.live.is_some() {
                tracing::info!(server = &*self.server.address, "Redis is back");
                return true;
            }
            tokio::select! {
                () = tokio::time::sleep(jittered(wait)) => wait = (wait * 2).min(RECONNECT_BACKOFF.1),
                () = self.primary.changed() => wait = RECONNECT_BACKOFF.0,
            }
        }
    }
}

/// Between half of `wait` and all of it, so that nodes do not come back in step.
fn jittered(wait: Duration) -> Duration {
    let part = getrandom::u32().unwrap_or_default() % 512;
    wait.mul_f64(0.5 + f64::from(part) / 1024.0)
}

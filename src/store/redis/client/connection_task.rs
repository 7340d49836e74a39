//! The task behind a client: gathers, calls, answers; gives a connection up and makes a new one.
//!
//! Its state is the circuit breaker. While it has no connection every check fails at once, and
//! this task alone asks for Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::MAX_BATCH;
use super::commit;
use super::grouping::group_calls;
use super::queue::{CallError, Job, Queue};
use crate::store::redis::cluster::Redirect;
use crate::store::redis::connection::LiveConnection;
use crate::store::redis::{Redis, Servers, StoreError, instance::RedisInstance};

/// For how many deadlines calls may go unanswered, one after the other, until a connection is given
/// up: TCP alone would wait for minutes on a peer that is gone without a word. Time is what counts,
/// not calls: under load a call has less than a deadline, since its checks waited for the one before.
const MAX_UNANSWERED_DEADLINES: f64 = 2.5;
/// The shortest and the longest wait between attempts to connect; recovery takes less than 1 s.
const RECONNECT_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_millis(250));
/// The longest that an attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) struct ConnectionTask {
    redis: Arc<Redis>,
    server: Arc<RedisInstance>,
    jobs: mpsc::Receiver<Job>,
    breaker_open: Arc<AtomicBool>,
    live: Option<LiveConnection>,
    /// How long calls have been waited for since the last that was answered.
    unanswered_for: Duration,
    probe_signal: watch::Receiver<()>,
}

impl ConnectionTask {
    /// A queue to a server, and what drives it; not connected yet.
    pub(super) fn with_queue(redis: &Arc<Redis>, server: &Arc<RedisInstance>) -> (Queue, Self) {
        let (redis, server) = (Arc::clone(redis), Arc::clone(server));
        let (breaker_open, probe_signal) =
            (Arc::<AtomicBool>::default(), server.probe_signal.subscribe());
        let (queue, jobs) = Queue::new(Arc::clone(&redis), Arc::clone(&breaker_open));
        let unanswered_for = Duration::ZERO;
        (
            queue,
            Self { redis, server, jobs, breaker_open, live: None, unanswered_for, probe_signal },
        )
    }

    /// Runs until every handle of the client is gone.
    pub(super) async fn run(mut self) {
        // Checks wait for a first connection, but no longer than they may.
        if self.live.is_none() && !self.is_breaker_open() {
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
                    self.replace_connection().await;
                    continue;
                }
                _ = self.probe_signal.changed() => {
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
        self.set_breaker_open(false);
    }

    /// Makes a new connection in the place of one that has ended while nothing was under way: a restart,
    /// or Redis' own `timeout`. Checks that come meanwhile wait no longer than they may.
    async fn replace_connection(&mut self) {
        let server = Arc::clone(&self.server.address);
        match self.connect(self.redis.deadline).await {
            Ok(()) => {
                tracing::debug!(%server, "an idle connection had ended; there is another one");
            }
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
        let in_cluster = matches!(self.redis.servers, Servers::Cluster(_));
        let (groups, positions) = group_calls(&jobs, in_cluster);
        let committed = commit::run(&self.redis, &self.server, &groups, deadline, connection).await;
        if committed.has_timed_out() {
            self.unanswered_for += began.elapsed();
        } else {
            self.unanswered_for = Duration::ZERO;
        }
        let usable = committed.failures.iter().try_for_each(|why| self.on_failure(why));
        commit::send_results(jobs, committed.outcomes, &positions);
        usable
    }

    /// What a call that came to nothing says of the connection. A slot that is elsewhere says nothing
    /// of the others.
    fn on_failure(&self, why: &CallError) -> Result<(), StoreError> {
        match why {
            CallError::Failed(error) if self.is_usable_after(error) => Ok(()),
            CallError::Failed(error) => Err(error.clone()),
            CallError::Redirected(redirect) => {
                let in_cluster = matches!(self.redis.servers, Servers::Cluster(_));
                if *redirect == Redirect::ClusterDown || !in_cluster {
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

    fn is_breaker_open(&self) -> bool {
        self.breaker_open.load(Ordering::Relaxed)
    }

    fn set_breaker_open(&self, breaker_open: bool) {
        if self.breaker_open.swap(breaker_open, Ordering::Relaxed) == breaker_open {
            return;
        }
        if breaker_open {
            self.redis.metrics.breaker_open.inc();
            self.redis.open_breakers.fetch_add(1, Ordering::Relaxed);
        } else {
            self.redis.metrics.breaker_open.dec();
            self.redis.open_breakers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn open_breaker(&mut self, error: &StoreError) {
        let (kind, server) = (error.kind(), &*self.server.address);
        tracing::warn!(%error, kind, server, "Redis is given up for now; plans decide by on_store_failure");
        self.redis.metrics.breaker_opened.inc();
        self.set_breaker_open(true);
        self.server.probe_signal.send_replace(());
        self.request_refresh();
    }

    /// In a Cluster somebody else may have its slots by now.
    fn request_refresh(&self) {
        if let Servers::Cluster(topology) = &self.redis.servers {
            topology.request_refresh();
        }
    }

    /// One attempt, as the client is made.
    pub(super) async fn connect_once(&mut self) {
        // Some checks' time. The error is of no interest where another attempt follows.
        let connect_timeout =
            CONNECT_TIMEOUT.min(self.redis.deadline.max(Duration::from_millis(50)) * 4);
        let _tried_again = self.connect(connect_timeout).await;
    }

    /// One attempt.
    async fn connect(&mut self, connect_timeout: Duration) -> Result<(), StoreError> {
        // Trouble so far is no news for a new connection; what comes from now on is.
        self.probe_signal.mark_unchanged();
        match self.redis.connect(&self.server, connect_timeout).await {
            Ok(live) => {
                self.live = Some(live);
                self.unanswered_for = Duration::ZERO;
                self.set_breaker_open(false);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, server = &*self.server.address, "no connection yet");
                self.set_breaker_open(true);
                self.request_refresh();
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
            tokio::time::sleep(jittered(wait)).await;
            wait = (wait * 2).min(RECONNECT_BACKOFF.1);
        }
    }
}

/// Between half of `wait` and all of it, so that nodes do not come back in step.
fn jittered(wait: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let part = RandomState::new().hash_one(wait) % 512;
    wait.mul_f64(0.5 + f64::from(u32::try_from(part).unwrap_or(0)) / 1024.0)
}

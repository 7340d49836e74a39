//! The task behind a lane: gathers, calls, answers; gives a connection up and makes a new one.
//!
//! Its state is the circuit breaker. While it has no connection every check fails at once, and
//! this task alone asks for Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::MOST;
use super::commit;
use super::parts::split;
use super::wire::{Job, Unjudged, Wire};
use crate::store::redis::cluster::Redirect;
use crate::store::redis::connection::Established;
use crate::store::redis::{Error, Redis, Servers, server::Server};

/// For how many deadlines calls may go unanswered, one after the other, until a connection is given
/// up: TCP alone would wait for minutes on a peer that is gone without a word. Time is what counts,
/// not calls: under load a call has less than a deadline, since its checks waited for the one before.
const UNANSWERED: f64 = 2.5;
/// The shortest and the longest wait between attempts to connect; recovery takes less than 1 s.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// The longest that an attempt to connect may take.
const PATIENCE: Duration = Duration::from_millis(500);

pub(super) struct Driver {
    redis: Arc<Redis>,
    server: Arc<Server>,
    queue: mpsc::Receiver<Job>,
    lost: Arc<AtomicBool>,
    established: Option<Established>,
    /// How long calls have been waited for since the last that was answered.
    unanswered: Duration,
    trouble: watch::Receiver<()>,
}

impl Driver {
    /// A wire to a server, and what drives it; not connected yet.
    pub(super) fn with_wire(redis: &Arc<Redis>, server: &Arc<Server>) -> (Wire, Self) {
        let (redis, server) = (Arc::clone(redis), Arc::clone(server));
        let (lost, trouble) = (Arc::<AtomicBool>::default(), server.trouble.subscribe());
        let (wire, queue) = Wire::new(Arc::clone(&redis), Arc::clone(&lost));
        let unanswered = Duration::ZERO;
        (wire, Self { redis, server, queue, lost, established: None, unanswered, trouble })
    }

    /// Runs until every handle of the lane is gone.
    pub(super) async fn run(mut self) {
        // Checks wait for a first connection, but no longer than they may.
        if self.established.is_none() && !self.is_lost() {
            let _tried_again_below = self.connect(self.redis.deadline).await;
        }
        loop {
            let Some(mut established) = self.established.take() else {
                if self.reconnect().await {
                    continue;
                }
                break;
            };
            let done = tokio::select! {
                biased;
                () = established.ended() => {
                    drop(established);
                    self.replace().await;
                    continue;
                }
                _ = self.trouble.changed() => {
                    // Checks that come meanwhile wait no longer than they may.
                    let connection = &mut established.connection;
                    self.redis.probe(&self.server, connection, self.redis.deadline).await
                }
                job = self.queue.recv() => match job {
                    Some(first) => {
                        let jobs = self.gather(first);
                        self.commit(jobs, &mut established.connection).await
                    }
                    None => break,
                },
            };
            match done {
                Ok(()) => self.established = Some(established),
                Err(error) => self.give_up(&error),
            }
        }
        self.set_lost(false);
    }

    /// Makes a new connection in the place of one that has ended while nothing was under way: a restart,
    /// or Redis' own `timeout`. Checks that come meanwhile wait no longer than they may.
    async fn replace(&mut self) {
        let server = Arc::clone(&self.server.address);
        match self.connect(self.redis.deadline).await {
            Ok(()) => {
                tracing::debug!(%server, "an idle connection had ended; there is another one");
            }
            Err(error) => {
                self.redis.metrics.record_store_error(error.kind());
                self.give_up(&error);
            }
        }
    }

    /// The first job and others that wait, up to a call's worth, without those nobody waits for.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut jobs = Vec::with_capacity(self.queue.len().min(MOST) + 1);
        let mut checks = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            if job.answers.is_closed() || job.deadline <= Instant::now() {
                job.fail(&Error::Timeout);
            } else {
                checks += job.work.checks.len() + job.work.refunds.len();
                jobs.push(job);
            }
            next = if checks < MOST { self.queue.try_recv().ok() } else { None };
        }
        jobs
    }

    /// One commit of all jobs. An error means that the connection is of no more use.
    async fn commit(
        &mut self,
        jobs: Vec<Job>,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), Error> {
        // All are answered by the earliest deadline. They came within one call's time of each other.
        let Some(deadline) = jobs.iter().map(|job| job.deadline).min() else { return Ok(()) };
        let began = Instant::now();
        let in_cluster = matches!(self.redis.servers, Servers::Cluster(_));
        let (parts, places) = split(&jobs, in_cluster);
        let committed = commit::run(&self.redis, &self.server, &parts, deadline, connection).await;
        if committed.has_timed_out() {
            self.unanswered += began.elapsed();
        } else {
            self.unanswered = Duration::ZERO;
        }
        let fate = committed.failures.iter().try_for_each(|why| self.heed(why));
        commit::answer(jobs, committed.outcomes, &places);
        fate
    }

    /// What a call that came to nothing says of the connection. A slot that is elsewhere says nothing
    /// of the others.
    fn heed(&self, why: &Unjudged) -> Result<(), Error> {
        match why {
            Unjudged::Failed(error) => self.fate(error),
            Unjudged::Elsewhere(redirect) => {
                let in_cluster = matches!(self.redis.servers, Servers::Cluster(_));
                if *redirect == Redirect::Nobody || !in_cluster {
                    self.redis.metrics.record_store_error("refused");
                }
                Ok(())
            }
        }
    }

    /// Counts a failed call, and says whether the connection can be used again.
    fn fate(&self, error: &Error) -> Result<(), Error> {
        self.redis.metrics.record_store_error(error.kind());
        let is_usable = match error {
            Error::Timeout => self.unanswered < self.redis.deadline.mul_f64(UNANSWERED),
            Error::Unreachable(_) | Error::Refused(_) | Error::BadReply(_) => false,
            Error::Script(why) => {
                tracing::error!(why, "the script failed");
                true
            }
            Error::Overloaded | Error::BadRow(_) | Error::Disk(_) => true,
        };
        if is_usable { Ok(()) } else { Err(error.clone()) }
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    fn set_lost(&self, lost: bool) {
        if self.lost.swap(lost, Ordering::Relaxed) == lost {
            return;
        }
        if lost {
            self.redis.metrics.breaker_open.inc();
            self.redis.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            self.redis.metrics.breaker_open.dec();
            self.redis.lost.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn give_up(&mut self, error: &Error) {
        let (kind, server) = (error.kind(), &*self.server.address);
        tracing::warn!(%error, kind, server, "Redis is given up for now; plans decide by on_store_failure");
        self.redis.metrics.breaker_opened.inc();
        self.set_lost(true);
        self.server.trouble.send_replace(());
        self.doubt();
    }

    /// In a Cluster somebody else may have its slots by now.
    fn doubt(&self) {
        if let Servers::Cluster(topology) = &self.redis.servers {
            topology.doubt();
        }
    }

    /// One attempt, as the lane is made.
    pub(super) async fn connect_once(&mut self) {
        // Some checks' time. The error is of no interest where another attempt follows.
        let patience = PATIENCE.min(self.redis.deadline.max(Duration::from_millis(50)) * 4);
        let _tried_again = self.connect(patience).await;
    }

    /// One attempt.
    async fn connect(&mut self, patience: Duration) -> Result<(), Error> {
        // Trouble so far is no news for a new connection; what comes from now on is.
        self.trouble.mark_unchanged();
        match self.redis.establish(&self.server, patience).await {
            Ok(established) => {
                self.established = Some(established);
                self.unanswered = Duration::ZERO;
                self.set_lost(false);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, server = &*self.server.address, "no connection yet");
                self.set_lost(true);
                self.doubt();
                Err(error)
            }
        }
    }

    /// Attempts until there is a connection; false where nobody needs one any more.
    async fn reconnect(&mut self) -> bool {
        let mut wait = BACKOFF.0;
        loop {
            // Those who asked before the connection was given up are not made to wait for it.
            while let Ok(job) = self.queue.try_recv() {
                job.fail(&Error::Unreachable("the connection is given up".into()));
            }
            if self.queue.is_closed() {
                return false;
            }
            self.connect_once().await;
            if self.established.is_some() {
                tracing::info!(server = &*self.server.address, "Redis is back");
                return true;
            }
            tokio::time::sleep(jittered(wait)).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }
}

/// Between half of `wait` and all of it, so that nodes do not come back in step.
fn jittered(wait: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let part = RandomState::new().hash_one(wait) % 512;
    wait.mul_f64(0.5 + f64::from(u32::try_from(part).unwrap_or(0)) / 1024.0)
}

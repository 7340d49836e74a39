//! The task behind a lane: gathers, calls, answers; gives a connection up and makes a new one.
//!
//! Its state is the circuit breaker. While it has no connection every check fails at once, and
//! this task alone asks for Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::{Answers, Job, MOST};
use crate::limit::{Charges, Refund};
use crate::store::Answer;
use crate::store::redis::call::Call;
use crate::store::redis::reply::{Judged, Reply};
use crate::store::redis::{Error, Redis, connection, script};

/// Calls without an answer, one after the other, until a connection is given up: TCP alone would
/// wait for minutes on a peer that is gone without a word.
const TIMEOUTS: u32 = 3;
/// The shortest and the longest wait between attempts to connect; recovery takes less than 1 s.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// The longest that an attempt to connect may take.
const PATIENCE: Duration = Duration::from_millis(500);

pub(super) struct Driver {
    pub(super) redis: Arc<Redis>,
    queue: mpsc::Receiver<Job>,
    lost: Arc<AtomicBool>,
    connection: Option<MultiplexedConnection>,
    timeouts: u32,
    trouble: watch::Receiver<()>,
}

impl Driver {
    pub(super) fn new(
        redis: Arc<Redis>,
        queue: mpsc::Receiver<Job>,
        lost: Arc<AtomicBool>,
    ) -> Self {
        redis.metrics.breaker_open.inc();
        redis.lost_lanes.fetch_add(1, Ordering::Relaxed);
        let trouble = redis.trouble.subscribe();
        Self { trouble, redis, queue, lost, connection: None, timeouts: 0 }
    }

    /// Runs until every handle of the lane is gone.
    pub(super) async fn run(mut self) {
        loop {
            let Some(mut connection) = self.connection.take() else {
                if self.reconnect().await {
                    continue;
                }
                break;
            };
            let done = tokio::select! {
                biased;
                job = self.queue.recv() => match job {
                    Some(first) => {
                        let jobs = self.gather(first);
                        self.commit(jobs, &mut connection).await
                    }
                    None => break,
                },
                _ = self.trouble.changed() => {
                    // Checks that come meanwhile wait no longer than they may.
                    connection::probe(&mut connection, self.redis.deadline).await.map(drop)
                }
            };
            match done {
                Ok(()) => self.connection = Some(connection),
                Err(error) => self.give_up(&error),
            }
        }
        if self.lost.load(Ordering::Relaxed) {
            self.redis.metrics.breaker_open.dec();
        }
    }

    /// The first job and others that wait, up to a call's worth, without those nobody waits for.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut checks = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            if job.answers.is_closed() || job.deadline <= Instant::now() {
                job.fail(&Error::Timeout);
            } else {
                checks += job.checks.len() + job.refunds.len();
                jobs.push(job);
            }
            next = if checks < MOST { self.queue.try_recv().ok() } else { None };
        }
        jobs
    }

    /// One call for all jobs. An error means that the connection is of no more use.
    async fn commit(
        &mut self,
        jobs: Vec<Job>,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), Error> {
        // All are answered by the earliest deadline. They came within one call's time of each other.
        let Some(deadline) = jobs.iter().map(|job| job.deadline).min() else { return Ok(()) };
        let time_left = deadline.saturating_duration_since(Instant::now());
        let checks: Vec<&Charges> = jobs.iter().flat_map(|job| &job.checks).collect();
        let refunds: Vec<&Refund> = jobs.iter().flat_map(|job| &job.refunds).collect();
        let mut results = self.call(&checks, &refunds, deadline, connection).await;
        let mut failed = results.as_ref().err().cloned();
        if let Ok(judged) = &mut results {
            failed = self.ask_again(&checks, judged, deadline, connection).await.err();
        }
        let fate = self.fate(failed.as_ref(), time_left);
        match results {
            Err(error) => jobs.into_iter().for_each(|job| job.fail(&error)),
            Ok(results) => {
                let mut results = results.into_iter();
                for job in jobs {
                    let answers: Answers =
                        results.by_ref().take(job.checks.len()).map(settled).collect();
                    let _nobody_waits = job.answers.send(answers);
                }
            }
        }
        fate
    }

    /// Counts a failed call, and says whether the connection can be used again.
    fn fate(&mut self, error: Option<&Error>, time_left: Duration) -> Result<(), Error> {
        let Some(error) = error else {
            self.timeouts = 0;
            return Ok(());
        };
        self.redis.metrics.store_failed(error.kind());
        match error {
            // A call that waited behind a slow one, and had little time itself, proves nothing.
            Error::Timeout if time_left * 2 < self.redis.deadline => {}
            Error::Timeout => self.timeouts += 1,
            Error::Unreachable(_) | Error::Refused(_) | Error::BadReply(_) => {
                self.timeouts = TIMEOUTS;
            }
            Error::Script(why) => tracing::error!(why, "the script failed"),
            Error::Overloaded | Error::BadRow(_) => {}
        }
        if self.timeouts < TIMEOUTS { Ok(()) } else { Err(error.clone()) }
    }

    pub(super) async fn call(
        &self,
        checks: &[&Charges],
        refunds: &[&Refund],
        deadline: Instant,
        connection: &mut MultiplexedConnection,
    ) -> Result<Vec<Result<Answer, Undecided>>, Error> {
        let mut call = Call::default();
        let offered_for = self.redis.clock.now();
        for charges in checks {
            call.add(charges, offered_for);
        }
        for refund in refunds {
            call.refund(refund, offered_for);
        }
        let began = Instant::now();
        let value = timeout_at(deadline, script::CHECK.run(&call, connection)).await;
        let metrics = &self.redis.metrics;
        metrics.store_duration.observe(began.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a count for a histogram")]
        metrics.store_batch.observe(checks.len() as f64);
        let value =
            value.map_err(|_| Error::Timeout)?.map_err(|error| connection::meaning(&error))?;
        self.decode(checks, value)
    }

    fn decode(
        &self,
        checks: &[&Charges],
        value: Value,
    ) -> Result<Vec<Result<Answer, Undecided>>, Error> {
        let mut reply = Reply::new(value)?;
        self.redis.clock.observe(reply.now);
        let mut results = Vec::with_capacity(checks.len());
        for (index, charges) in (0..).zip(checks) {
            results.push(match reply.next(charges)? {
                Judged::Verdict(verdict) => Ok(Answer { verdict, index, leased: false }),
                Judged::Elsewhere => Err(Undecided::Elsewhere),
                Judged::Over => Err(Undecided::Over),
                Judged::BadRow(why) => {
                    self.redis.metrics.store_failed("bad_row");
                    tracing::error!(why, "a stored row cannot be read");
                    Err(Undecided::Failed(Error::BadRow(why)))
                }
            });
        }
        Ok(results)
    }

    fn give_up(&mut self, error: &Error) {
        tracing::warn!(%error, kind = error.kind(), "Redis is given up for now; plans decide by on_store_failure");
        self.redis.metrics.breaker_opened.inc();
        self.redis.metrics.breaker_open.inc();
        self.redis.lost_lanes.fetch_add(1, Ordering::Relaxed);
        self.lost.store(true, Ordering::Relaxed);
        self.connection = None;
        self.redis.trouble.send_replace(());
    }

    /// How long an attempt to connect may take: some checks' time.
    fn patience(&self) -> Duration {
        PATIENCE.min(self.redis.deadline.max(Duration::from_millis(50)) * 4)
    }

    /// One attempt; the error is of no interest where another follows.
    pub(super) async fn connect_once(&mut self) -> bool {
        // Trouble so far is no news for a new connection; what comes from now on is.
        self.trouble.mark_unchanged();
        let patience = self.patience();
        let made = connection::establish(&self.redis.client, patience).await;
        let Ok((connection, now)) =
            made.inspect_err(|error| tracing::debug!(%error, "no connection yet"))
        else {
            return false;
        };
        self.redis.clock.observe(now);
        self.connection = Some(connection);
        self.timeouts = 0;
        self.lost.store(false, Ordering::Relaxed);
        self.redis.lost_lanes.fetch_sub(1, Ordering::Relaxed);
        self.redis.metrics.breaker_open.dec();
        true
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
            if self.connect_once().await {
                tracing::info!("Redis is back");
                return true;
            }
            tokio::time::sleep(jittered(wait)).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }
}

/// Why a check of a call that succeeded has no verdict.
pub(super) enum Undecided {
    Elsewhere,
    Over,
    Failed(Error),
}

fn settled(result: Result<Answer, Undecided>) -> Result<Answer, Error> {
    result.map_err(|undecided| match undecided {
        Undecided::Failed(error) => error,
        Undecided::Elsewhere => {
            Error::BadReply("Redis' clock moved away twice within one check".into())
        }
        Undecided::Over => Error::BadRow("the days before this one cannot be kept".into()),
    })
}

/// Between half of `wait` and all of it, so that nodes do not come back in step.
fn jittered(wait: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let part = RandomState::new().hash_one(wait) % 512;
    wait.mul_f64(0.5 + f64::from(u32::try_from(part).unwrap_or(0)) / 1024.0)
}

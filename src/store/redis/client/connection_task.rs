//! The task that owns one connection: it sends the jobs of a queue in calls, and reconnects.
//!
//! While the task has no connection its circuit breaker is open: every check fails at once, and
//! only this task tries to reconnect. After a failover the same task connects to the new primary.
//! When a call leaves is decided in `calls_in_flight`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::RedisError;
use tokio::sync::watch;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::call_in_flight::CallEnd;
use super::calls_in_flight::{Alarm, CallsInFlight};
use super::job::CallError;
use super::queue::{Queue, WaitingJobs};
use crate::store::redis::connection::LiveConnection;
use crate::store::redis::errors::classify;
use crate::store::redis::instance::RedisInstance;
use crate::store::redis::redirect::Redirect;
use crate::store::redis::topology::PrimaryWatch;
use crate::store::redis::{Redis, StoreError, jittered};

/// The time without a reply in time, while calls are in flight, until the circuit breaker opens, as
/// a multiple of the deadline. TCP alone takes minutes to notice that a peer is gone.
const MAX_SILENT_DEADLINES: f64 = 2.5;
/// The shortest and the longest backoff between attempts to connect. Recovery takes less than 1 s.
const RECONNECT_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_millis(250));
/// The longest timeout of an attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The owner of one connection.
pub(super) struct ConnectionTask {
    redis: Arc<Redis>,
    primary: PrimaryWatch,
    /// The server of the `live` connection, or of the last attempt to connect.
    server: Arc<RedisInstance>,
    probe_requests: watch::Receiver<()>,
    waiting: WaitingJobs,
    breaker: Arc<Breaker>,
    live: Option<LiveConnection>,
    /// The time to wait before the next attempt to connect. It grows with each connection on which
    /// no call has succeeded: such a server can be reached, but not used.
    backoff: Duration,
    /// True if the log says that there is no connection.
    is_loss_logged: bool,
}

/// The reason why the task serves a connection no longer.
enum ConnectionEnd {
    /// A new one has to take its place. No check has failed.
    Replace(&'static str),
    /// Calls fail on it.
    Lost(StoreError),
    /// Every clone of the queue was dropped.
    Unused,
}

impl ConnectionTask {
    /// A task that connects when it is run, and the queue to it.
    pub(super) fn with_queue(redis: &Arc<Redis>, mut primary: PrimaryWatch) -> (Queue, Self) {
        let breaker = Arc::new(Breaker::new(redis));
        let (queue, waiting) = Queue::new(redis, &breaker);
        let server = primary.current();
        let task = Self {
            redis: Arc::clone(redis),
            primary,
            probe_requests: server.probe_requests(),
            server,
            waiting,
            breaker,
            live: None,
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
            let Some(live) = self.live.take() else {
                if self.reconnect().await {
                    continue;
                }
                break;
            };
            match self.serve(live).await {
                ConnectionEnd::Replace(reason) => self.replace_connection(reason).await,
                ConnectionEnd::Lost(error) => self.open_breaker(&error),
                ConnectionEnd::Unused => break,
            }
        }
        self.breaker.set_open(false);
    }

    /// Sends jobs over a connection until it ends. The callers of calls that are in flight then get
    /// an error at once.
    async fn serve(&mut self, mut live: LiveConnection) -> ConnectionEnd {
        let max_silence = self.redis.deadline.mul_f64(MAX_SILENT_DEADLINES);
        let mut calls = CallsInFlight::new(&self.redis, &self.server);
        let (mut pause, mut alarm) = (Alarm::new(), Alarm::new());
        loop {
            let now = Instant::now();
            calls.send_waiting(&mut self.waiting, &live, now);
            let is_idle = calls.is_empty();
            let needs_arrivals = calls.needs_arrivals(&self.waiting, now);
            let pause_end = calls.pause_end(&self.waiting, now);
            let alarm_time = calls.next_alarm(&self.waiting, max_silence);
            tokio::select! {
                biased;
                () = self.primary.changed() => {
                    calls.finish_in_background(live);
                    return ConnectionEnd::Replace("another server is the primary now");
                }
                // Replies prove as much as a probe. Checks that arrive during the probe do not wait
                // beyond their deadline.
                _ = self.probe_requests.changed(), if is_idle => {
                    let probed = self.redis.probe(&self.server, &mut live, self.redis.deadline);
                    if let Err(error) = probed.await {
                        return ConnectionEnd::Lost(error);
                    }
                }
                end = calls.next_end(&mut live) => {
                    if let Err(end) = self.on_end(end, calls.is_empty()) {
                        return end;
                    }
                    // The responses leave first, and the requests that have arrived by then join
                    // the next call.
                    if self.waiting.has_jobs() {
                        tokio::task::yield_now().await;
                    }
                }
                is_used = self.waiting.arrival(), if needs_arrivals => {
                    if !is_used {
                        return ConnectionEnd::Unused;
                    }
                }
                () = pause.sleep_until(pause_end) => {}
                () = alarm.sleep_at_most_until(alarm_time) => {
                    // A flood can keep this node from reading replies that are there. That is no
                    // silence of Redis, so they are read first.
                    tokio::task::yield_now().await;
                    while let Some(end) = calls.next_end(&mut live).now_or_never() {
                        if let Err(end) = self.on_end(end, calls.is_empty()) {
                            return end;
                        }
                    }
                    calls.expire(Instant::now());
                    if calls.is_silent_for(max_silence) {
                        self.redis.metrics.record_store_error(StoreError::Timeout.kind());
                        return ConnectionEnd::Lost(StoreError::Timeout);
                    }
                }
            }
        }
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

    /// Counts the failures of a call. An error means that the connection must not be used again.
    fn on_end(
        &mut self,
        end: Result<CallEnd, RedisError>,
        is_idle: bool,
    ) -> Result<(), ConnectionEnd> {
        match end {
            Ok(CallEnd { failures, in_time, .. }) => {
                if failures.is_empty() && in_time {
                    self.backoff = Duration::ZERO;
                }
                let counted = failures.iter().try_for_each(|failure| self.on_failure(failure));
                counted.map_err(ConnectionEnd::Lost)
            }
            Err(_) if is_idle => {
                Err(ConnectionEnd::Replace("an idle connection had ended and was replaced"))
            }
            Err(error) => {
                let error = classify(&error);
                self.redis.metrics.record_store_error(error.kind());
                Err(ConnectionEnd::Lost(error))
            }
        }
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
            StoreError::Timeout
            | StoreError::Overloaded
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
            self.waiting.fail_all(&StoreError::Unreachable("the connection was lost".into()));
            if self.waiting.is_closed() {
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

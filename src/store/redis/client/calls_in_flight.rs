//! The calls in flight on one connection: how many there may be, and when the next one leaves.
//!
//! Redis runs the calls of a connection in the order in which they were sent, so checks of one
//! subject keep their order. The calls themselves are in `call_in_flight`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::MAX_CALL_CHARGES;
use super::call_in_flight::{Batch, CallEnd, CallRoute};
use super::queue::WaitingJobs;
use super::round_trips::RoundTrips;
use super::silence::Silence;
use crate::store::redis::connection::LiveConnection;
use crate::store::redis::instance::RedisInstance;
use crate::store::redis::{Redis, StoreError};

/// The most calls in flight.
const MAX_CALLS: usize = 64;
/// The most charges of all calls in flight together. Further checks wait in the node, where they
/// can still be withdrawn.
const MAX_CHARGES: usize = 2 * MAX_CALL_CHARGES;

/// The calls in flight on one connection.
pub(super) struct CallsInFlight {
    redis: Arc<Redis>,
    server: Arc<RedisInstance>,
    calls: FuturesUnordered<BoxFuture<'static, CallEnd>>,
    charges: usize,
    last_sent_at: Instant,
    /// The latest deadline of a job that was sent.
    latest_deadline: Instant,
    round_trips: RoundTrips,
    silence: Arc<Silence>,
}

impl CallsInFlight {
    /// No calls yet on a new connection to `server`.
    pub(super) fn new(redis: &Arc<Redis>, server: &Arc<RedisInstance>) -> Self {
        let now = Instant::now();
        Self {
            redis: Arc::clone(redis),
            server: Arc::clone(server),
            calls: FuturesUnordered::new(),
            charges: 0,
            last_sent_at: now,
            latest_deadline: now,
            round_trips: RoundTrips::new(now),
            silence: Arc::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Sends the jobs that wait, as far as calls may leave now, and withdraws those whose deadline
    /// has passed.
    pub(super) fn send_waiting(
        &mut self,
        waiting: &mut WaitingJobs,
        live: &LiveConnection,
        now: Instant,
    ) {
        let expiry_error = || self.expiry_error(now);
        waiting.withdraw_expired(now, expiry_error);
        while waiting.has_jobs() && self.may_send(waiting, now) {
            let room = MAX_CHARGES.saturating_sub(self.charges);
            let expiry_error = || self.expiry_error(now);
            let batch =
                waiting.take_batch(room, self.is_empty(), self.redis.deadline, expiry_error);
            if batch.is_empty() {
                return;
            }
            let has_backlog = waiting.has_jobs();
            self.send(batch, has_backlog, live, now);
        }
    }

    fn send(&mut self, batch: Batch, has_backlog: bool, live: &LiveConnection, now: Instant) {
        self.charges += batch.charges();
        self.last_sent_at = now;
        self.latest_deadline = self.latest_deadline.max(batch.latest_deadline().unwrap_or(now));
        self.silence.on_sent(now);
        let route = CallRoute {
            redis: Arc::clone(&self.redis),
            server: Arc::clone(&self.server),
            connection: live.connection.clone(),
            silence: Arc::clone(&self.silence),
        };
        self.calls.push(Box::pin(batch.run(route, has_backlog)));
    }

    /// True if a call may leave now. The first one always may.
    fn may_send(&self, waiting: &WaitingJobs, now: Instant) -> bool {
        self.is_empty()
            || self.calls.len() < MAX_CALLS
                && self.charges < MAX_CHARGES
                && (self.next_send_at() <= now || waiting.fills_call())
    }

    /// The time from which on a call may leave although others are in flight.
    fn next_send_at(&self) -> Instant {
        self.last_sent_at + self.round_trips.pace(self.redis.deadline)
    }

    /// True if an arriving job is of interest: it could leave at once, or others could with it. If
    /// Redis is near, jobs wait in the queue until the response to the call in flight, and do not
    /// wake this task.
    pub(super) fn needs_arrivals(&self, waiting: &WaitingJobs, now: Instant) -> bool {
        !waiting.fills_call()
            && (self.is_empty() || self.round_trips.is_far() || self.next_send_at() <= now)
    }

    /// The end of the next call; `None` if none is in flight. Cancel safe.
    pub(super) async fn next_end(&mut self) -> Option<CallEnd> {
        let end = self.calls.next().await?;
        let now = Instant::now();
        self.charges -= end.charges;
        self.silence.on_end(end.in_time, now);
        if let Some(round_trip) = end.round_trip {
            self.round_trips.observe(round_trip, now);
        }
        Some(end)
    }

    /// The time of the next thing to do without a reply or an arrival: a call may leave, a job that
    /// waits has reached its deadline, or the silence has lasted for `limit`.
    pub(super) fn next_alarm(
        &self,
        waiting: &WaitingJobs,
        limit: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let next_send_at = self.next_send_at();
        let is_paced = !self.is_empty() && now < next_send_at;
        // If Redis is near, the queue is looked at from then on.
        let is_due = is_paced && (!waiting.is_empty() || !self.round_trips.is_far());
        let next_send_at = is_due.then_some(next_send_at);
        let times = [next_send_at, waiting.next_deadline(), self.silence.lasts_for(limit)];
        times.into_iter().flatten().min()
    }

    /// True if no reply in time has come for `limit` while calls were in flight.
    pub(super) fn is_silent_for(&self, limit: Duration) -> bool {
        self.silence.lasts_for(limit).is_some_and(|time| time <= Instant::now())
    }

    /// The error of a check whose deadline has passed before it was sent: if Redis replies, the
    /// node's own queue is too long.
    fn expiry_error(&self, now: Instant) -> StoreError {
        if !self.silence.is_short(self.redis.deadline, now) {
            return StoreError::Timeout;
        }
        self.redis.metrics.record_store_error(StoreError::Overloaded.kind());
        StoreError::Overloaded
    }

    /// Waits for the replies in a task of its own, as long as any job waits for them, and then
    /// closes the connection.
    pub(super) fn finish_in_background(self, live: LiveConnection) {
        let Self { mut calls, latest_deadline, .. } = self;
        if calls.is_empty() {
            return;
        }
        tokio::spawn(async move {
            let ended = async { while calls.next().await.is_some() {} };
            let _all_have_ended = timeout_at(latest_deadline, ended).await;
            drop(live);
        });
    }
}

/// A timer for times that mostly move on before they come: it is set anew only for an earlier one,
/// and rather wakes its task too early than be set for each call.
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    /// An alarm that is set for nothing.
    pub(super) fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now())))
    }

    /// Sleeps until `time`, or not as long. Cancel safe.
    pub(super) async fn sleep_until(&mut self, time: Option<Instant>) {
        let Some(time) = time else { return std::future::pending().await };
        if self.0.is_elapsed() || time < self.0.deadline() {
            self.0.as_mut().reset(time);
        }
        self.0.as_mut().await;
    }
}

//! The calls in flight on one connection: how many there may be, and when the next one leaves.
//!
//! Redis runs the calls of a connection in the order in which they were sent, so checks of one
//! subject keep their order. The calls themselves are in `call_in_flight`.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use redis::RedisError;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::MAX_CALL_CHARGES;
use super::call_in_flight::{Batch, CallEnd, CallInFlight};
use super::queue::WaitingJobs;
use super::round_trips::RoundTrips;
use super::silence::Silence;
use crate::store::redis::connection::{CallId, LiveConnection};
use crate::store::redis::instance::RedisInstance;
use crate::store::redis::{Redis, StoreError};

/// The most calls in flight.
const MAX_CALLS: usize = 64;
/// The most charges of checks that leave at once, each in a call of its own, while Redis is not busy:
/// its script takes less time for two lone checks than for two in a call, and they do not wait for
/// each other. Further checks do.
pub(super) const MAX_LONE_CHARGES: usize = 4;
/// The most charges of all calls in flight together. Further checks wait in the node, where they
/// can still be withdrawn.
const MAX_CHARGES: usize = 2 * MAX_CALL_CHARGES;

/// The calls in flight on one connection.
pub(super) struct CallsInFlight {
    redis: Arc<Redis>,
    server: Arc<RedisInstance>,
    /// In the order in which they were sent.
    calls: VecDeque<CallInFlight>,
    next_id: CallId,
    charges: usize,
    last_sent_at: Instant,
    round_trips: RoundTrips,
    silence: Silence,
}

impl CallsInFlight {
    /// No calls yet on a new connection to `server`.
    pub(super) fn new(redis: &Arc<Redis>, server: &Arc<RedisInstance>) -> Self {
        let now = Instant::now();
        Self {
            redis: Arc::clone(redis),
            server: Arc::clone(server),
            calls: VecDeque::new(),
            next_id: 0,
            charges: 0,
            last_sent_at: now,
            round_trips: RoundTrips::new(now),
            silence: Silence::default(),
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
            let is_thin = self.charges + waiting.len() <= self.max_lone_charges();
            let room = if is_thin { 1 } else { MAX_CHARGES.saturating_sub(self.charges) };
            let at_least_one = is_thin || self.is_empty();
            let expiry_error = || self.expiry_error(now);
            let batch = waiting.take_batch(room, at_least_one, self.redis.deadline, expiry_error);
            if batch.is_empty() {
                return;
            }
            let has_backlog = !is_thin && waiting.has_jobs();
            self.send(batch, has_backlog, live, now);
        }
    }

    fn send(&mut self, batch: Batch, has_backlog: bool, live: &LiveConnection, now: Instant) {
        let (id, charges, commands) = (self.next_id, batch.charges(), live.commands(self.next_id));
        let mut call =
            CallInFlight::new(id, batch, has_backlog, &self.redis, &self.server, commands);
        if call.poll().is_some() {
            // The connection has just ended, as its next poll says.
            return;
        }
        self.next_id += 1;
        self.charges += charges;
        self.last_sent_at = now;
        self.silence.on_sent(now);
        self.calls.push_back(call);
    }

    /// True if a call may leave now. The first one always may.
    fn may_send(&self, waiting: &WaitingJobs, now: Instant) -> bool {
        let has_room = self.calls.len() < MAX_CALLS && self.charges < MAX_CHARGES;
        self.is_empty()
            || has_room
                && (self.charges < self.max_lone_charges()
                    || self.next_send_at() <= now
                    || waiting.fills_call())
    }

    /// The most charges of checks that leave at once, each alone.
    fn max_lone_charges(&self) -> usize {
        if self.round_trips.is_busy() { 0 } else { MAX_LONE_CHARGES }
    }

    /// The time from which on a call may leave although others are in flight.
    fn next_send_at(&self) -> Instant {
        self.last_sent_at + self.round_trips.pace(self.redis.deadline)
    }

    /// True if an arriving job is of interest: it could leave at once, or others could with it, or
    /// it is the first one for which the pause has an end. If Redis is near, the jobs behind that
    /// one wait in the queue until the next response, and do not wake this task.
    pub(super) fn needs_arrivals(&self, waiting: &WaitingJobs, now: Instant) -> bool {
        !waiting.fills_call()
            && (waiting.is_empty()
                || self.is_empty()
                || self.round_trips.is_far()
                || self.next_send_at() <= now)
    }

    /// Writes commands and reads replies until the next call ends. An error ends the connection
    /// and all calls. Cancel safe.
    pub(super) async fn next_end(
        &mut self,
        live: &mut LiveConnection,
    ) -> Result<CallEnd, RedisError> {
        poll_fn(|context| {
            loop {
                match ready!(live.poll_replied(context)) {
                    Ok(id) => {
                        if let Some(end) = self.poll_call(id) {
                            return Poll::Ready(Ok(end));
                        }
                    }
                    Err(error) => {
                        for call in &mut self.calls {
                            let _ended_with_the_error = call.poll();
                        }
                        return Poll::Ready(Err(error));
                    }
                }
            }
        })
        .await
    }

    /// Continues a call that has replies, and returns its end unless it sends more commands.
    fn poll_call(&mut self, id: CallId) -> Option<CallEnd> {
        let place = self.calls.iter().position(|call| call.id == id)?;
        let end = self.calls[place].poll()?;
        self.calls.remove(place);
        let now = Instant::now();
        self.charges -= end.charges;
        self.silence.on_end(end.in_time, now);
        if let Some(round_trip) = end.round_trip {
            self.round_trips.observe(round_trip, now);
        }
        Some(end)
    }

    /// The end of the pause before the next call, if a job waits for it.
    pub(super) fn pause_end(&self, waiting: &WaitingJobs, now: Instant) -> Option<Instant> {
        if self.is_empty() || waiting.is_empty() {
            return None;
        }
        Some(self.next_send_at()).filter(|end| now < *end)
    }

    /// The time at which a job reaches its deadline without a reply or an arrival, or the silence
    /// has lasted for `limit`.
    pub(super) fn next_alarm(&self, waiting: &WaitingJobs, limit: Duration) -> Option<Instant> {
        let times = [self.next_deadline(), waiting.next_deadline(), self.silence.lasts_for(limit)];
        times.into_iter().flatten().min()
    }

    /// The first deadline of a job in flight that still waits.
    fn next_deadline(&self) -> Option<Instant> {
        self.calls.iter().filter_map(CallInFlight::next_deadline).min()
    }

    /// Ends the wait of the jobs in flight whose deadline has passed. Behind a backlog they were
    /// sent late: that is the node's overload, as long as Redis replies.
    pub(super) fn expire(&mut self, now: Instant) {
        let has_replied_lately = self.silence.is_short(self.redis.deadline, now);
        for call in &mut self.calls {
            let is_overload = call.has_backlog && has_replied_lately;
            let error = if is_overload { StoreError::Overloaded } else { StoreError::Timeout };
            if call.expire(now, &error) {
                self.redis.metrics.record_store_error(error.kind());
            }
        }
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
    pub(super) fn finish_in_background(mut self, mut live: LiveConnection) {
        tokio::spawn(async move {
            while let Some(deadline) = self.next_deadline() {
                match timeout_at(deadline, self.next_end(&mut live)).await {
                    Ok(Ok(_ended)) => {}
                    Ok(Err(_has_closed)) => return,
                    Err(_elapsed) => self.expire(Instant::now()),
                }
            }
        });
    }
}

/// A timer that is set again and again, for a time that mostly moves on before it comes. To put it
/// off is cheap; to set it anew, or for an earlier time, wakes the runtime's timers.
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    /// An alarm that is set for nothing.
    pub(super) fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now())))
    }

    /// Sleeps until `time`. Cancel safe.
    pub(super) async fn sleep_until(&mut self, time: Option<Instant>) {
        let Some(time) = time else { return std::future::pending().await };
        if self.0.deadline() != time {
            self.0.as_mut().reset(time);
        }
        self.0.as_mut().await;
    }

    /// Sleeps until `time`, or not as long: an earlier time that is set already stays. Cancel safe.
    pub(super) async fn sleep_at_most_until(&mut self, time: Option<Instant>) {
        let Some(time) = time else { return std::future::pending().await };
        if self.0.is_elapsed() || time < self.0.deadline() {
            self.0.as_mut().reset(time);
        }
        self.0.as_mut().await;
    }
}

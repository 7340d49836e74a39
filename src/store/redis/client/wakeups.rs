//! Wake-ups: a connection sets no timer and asks for no arrival that it does not need, and a call
//! is one write and one read of its connection.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use smallvec::smallvec;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::calls_in_flight::{CallsInFlight, MAX_LONE_CHARGES};
use super::job::{CallError, JobResults, QueuedCheck, Work};
use super::queue::{Queue, WaitingJobs};
use crate::algorithm::{Rate, Throttle};
use crate::limit::{Charge, Charges, Limit, Subject, Unit};
use crate::store::CheckContext;
use crate::store::redis::connection::LiveConnection;
use crate::store::redis::{Redis, RedisOptions, StoreError};
use crate::telemetry::Metrics;
use crate::time::Micros;

const DEADLINE: Duration = Duration::from_mins(1);
/// The reply to a call with one check of one throttle, which is allowed.
const REPLY: &[u8] = b"*3\r\n:1700000000000000\r\n:1\r\n:0\r\n";
/// The same to a call with three of them.
const REPLY_TO_THREE: &[u8] = b"*7\r\n:1700000000000000\r\n:1\r\n:0\r\n:1\r\n:0\r\n:1\r\n:0\r\n";

/// A connection whose other end the test is.
struct Fixture {
    queue: Queue,
    waiting: WaitingJobs,
    calls: CallsInFlight,
    live: LiveConnection,
    server: DuplexStream,
    metrics: Arc<Metrics>,
}

impl Fixture {
    fn new() -> Self {
        let options = RedisOptions {
            url: "redis://127.0.0.1:1".parse().unwrap(),
            ca_file: None,
            deadline: DEADLINE,
            min_nodes: 1,
            leases: false,
            repeats_refusals: false,
            start_without_store: false,
            runtime: tokio::runtime::Handle::current(),
        };
        let metrics = Arc::new(Metrics::new());
        let redis = Redis::new(&options, Arc::clone(&metrics), None).unwrap();
        let (queue, waiting) = Queue::new(&redis, &Arc::new(Breaker::new(&redis)));
        let calls = CallsInFlight::new(&redis, &redis.topology.primary_of(0).unwrap());
        let (stream, server) = duplex(1 << 16);
        Self { queue, waiting, calls, live: LiveConnection::new(Box::new(stream)), server, metrics }
    }

    fn enqueue(&self, deadline: Instant) -> oneshot::Receiver<JobResults> {
        let throttle = Throttle::new(Rate::new(1, Micros::from_secs(1)).unwrap(), 1).unwrap();
        let limit = Arc::new(Limit::new("throttle", Unit::requests(), throttle, false));
        let charges: Charges = smallvec![Charge::new(Subject::policy("p", "k"), limit, 1)];
        let check = QueuedCheck::new(&charges, &CheckContext::NONE);
        let work = Work { checks: smallvec![check], ..Work::default() };
        self.queue.send(work, deadline).unwrap()
    }

    /// Sends what waits, as the connection's task does, and returns the bytes of one read.
    async fn send(&mut self) -> Vec<u8> {
        let Self { calls, waiting, live, server, .. } = self;
        calls.send_waiting(waiting, live, Instant::now());
        assert!(calls.next_end(live).now_or_never().is_none(), "there is no reply yet");
        let mut bytes = vec![0; 1 << 16];
        let length = server.read(&mut bytes).await.unwrap();
        bytes.truncate(length);
        bytes
    }

    fn alarm(&self) -> Option<Instant> {
        self.calls.next_alarm(&self.waiting, DEADLINE * 2)
    }

    fn pause_end(&self) -> Option<Instant> {
        self.calls.pause_end(&self.waiting, Instant::now())
    }

    fn needs_arrivals(&self) -> bool {
        self.calls.needs_arrivals(&self.waiting, Instant::now())
    }
}

#[tokio::test]
async fn a_connection_without_checks_sets_no_timer() {
    let mut fixture = Fixture::new();
    assert_eq!((fixture.alarm(), fixture.pause_end()), (None, None));
    assert!(fixture.needs_arrivals());
    let result = fixture.enqueue(Instant::now() + DEADLINE);
    fixture.send().await;
    fixture.server.write_all(REPLY).await.unwrap();
    fixture.calls.next_end(&mut fixture.live).await.unwrap();
    assert!(result.await.unwrap()[0].is_ok());
    assert_eq!((fixture.alarm(), fixture.pause_end()), (None, None), "nor does it afterwards");
}

#[tokio::test]
async fn a_lone_check_is_one_write_and_sets_no_timer_but_that_of_its_deadline() {
    let mut fixture = Fixture::new();
    let deadline = Instant::now() + DEADLINE;
    let result = fixture.enqueue(deadline);
    let call = fixture.send().await;
    assert!(call.starts_with(b"*") && call.ends_with(b"\r\n"), "the whole command in one read");
    assert_eq!((fixture.alarm(), fixture.pause_end()), (Some(deadline), None));
    fixture.server.write_all(REPLY).await.unwrap();
    let end = fixture.calls.next_end(&mut fixture.live).now_or_never();
    assert!(end.unwrap().unwrap().in_time, "one poll reads the reply");
    assert!(result.now_or_never().unwrap().unwrap()[0].is_ok(), "and passes it on");
}

/// The number of script calls among these bytes. A connection that has not been probed calls the
/// module.
fn calls_in(bytes: &[u8]) -> usize {
    bytes.windows(8).filter(|bytes| bytes == b"TG.JUDGE").count()
}

#[tokio::test]
async fn few_checks_leave_alone_and_those_behind_them_wait_together_and_wake_the_task_once() {
    let mut fixture = Fixture::new();
    let deadline = Instant::now() + DEADLINE;
    let mut lone: Vec<_> = (0..MAX_LONE_CHARGES).map(|_| fixture.enqueue(deadline)).collect();
    assert_eq!(calls_in(&fixture.send().await), MAX_LONE_CHARGES, "in one write");
    assert!(fixture.needs_arrivals());
    let waiting: Vec<_> = (0..3).map(|_| fixture.enqueue(deadline)).collect();
    assert!(fixture.waiting.arrival().await);
    // By a clock that may have passed the pause, the next call could leave now.
    let is_paused = fixture.pause_end().is_some();
    assert!(is_paused != fixture.needs_arrivals(), "either it waits for the pause or for arrivals");
    fixture.server.write_all(REPLY).await.unwrap();
    fixture.calls.next_end(&mut fixture.live).await.unwrap();
    assert!(lone.remove(0).await.unwrap()[0].is_ok());
    assert_eq!(calls_in(&fixture.send().await), 1, "those that waited leave in one call");
    let mut replies = REPLY.repeat(lone.len());
    replies.extend_from_slice(REPLY_TO_THREE);
    fixture.server.write_all(&replies).await.unwrap();
    while !fixture.calls.is_empty() {
        fixture.calls.next_end(&mut fixture.live).await.unwrap();
    }
    for result in lone.into_iter().chain(waiting) {
        assert!(result.await.unwrap()[0].is_ok());
    }
    assert_eq!(fixture.pause_end(), None);
}

#[tokio::test]
async fn lone_checks_without_a_reply_in_time_are_no_overload_of_the_node() {
    let mut fixture = Fixture::new();
    let soon = Instant::now();
    let lone: Vec<_> =
        (0..MAX_LONE_CHARGES).map(|_| fixture.enqueue(soon + DEADLINE / 4)).collect();
    fixture.send().await;
    fixture.calls.expire(soon + DEADLINE / 2);
    for result in lone {
        let error = result.await.unwrap().remove(0).err();
        assert!(matches!(error, Some(CallError::Failed(StoreError::Timeout))), "{error:?}");
    }
}

#[tokio::test]
async fn replies_that_come_in_pieces_or_together_belong_to_their_calls() {
    let mut fixture = Fixture::new();
    let (soon, deadline) = (Instant::now(), Instant::now() + DEADLINE);
    let late = fixture.enqueue(soon + DEADLINE / 4);
    fixture.send().await;
    fixture.calls.expire(soon + DEADLINE / 2);
    assert!(late.await.unwrap()[0].is_err(), "its deadline has passed");
    let in_time = fixture.enqueue(deadline);
    assert!(fixture.waiting.arrival().await);
    if let Some(end) = fixture.pause_end() {
        tokio::time::sleep_until(end).await;
    }
    fixture.send().await;
    let replies = [REPLY, REPLY].concat();
    let (start, end) = replies.split_at(REPLY.len() / 2);
    fixture.server.write_all(start).await.unwrap();
    assert!(fixture.calls.next_end(&mut fixture.live).now_or_never().is_none());
    fixture.server.write_all(end).await.unwrap();
    assert!(!fixture.calls.next_end(&mut fixture.live).await.unwrap().in_time);
    let end = fixture.calls.next_end(&mut fixture.live).now_or_never();
    assert!(end.unwrap().unwrap().in_time, "it needs no further read");
    assert!(in_time.await.unwrap()[0].is_ok());
    assert!(fixture.calls.is_empty());
}

#[tokio::test]
async fn a_connection_that_ends_fails_its_calls_and_a_reply_to_nothing_ends_it() {
    let mut fixture = Fixture::new();
    let result = fixture.enqueue(Instant::now() + DEADLINE);
    fixture.send().await;
    fixture.server.write_all(&[REPLY, REPLY].concat()).await.unwrap();
    fixture.calls.next_end(&mut fixture.live).await.unwrap();
    assert!(result.await.unwrap()[0].is_ok());
    assert!(fixture.calls.next_end(&mut fixture.live).await.is_err(), "nothing was asked");
    let unsent = fixture.enqueue(Instant::now() + DEADLINE);
    let Fixture { calls, waiting, live, .. } = &mut fixture;
    calls.send_waiting(waiting, live, Instant::now());
    assert!(calls.is_empty() && unsent.await.unwrap()[0].is_err(), "a check does not wait for it");
}

#[tokio::test]
async fn a_caller_that_has_left_is_sent_no_call_and_counted_as_no_error() {
    let mut fixture = Fixture::new();
    let soon = Instant::now() + DEADLINE;
    drop(fixture.enqueue(soon));
    drop(fixture.enqueue(Instant::now()));
    let late = fixture.enqueue(Instant::now());
    let _waits = fixture.enqueue(soon);
    let sent = String::from_utf8_lossy(&fixture.send().await).into_owned();
    assert_eq!(sent.matches("EVALSHA").count() + sent.matches("TG.JUDGE").count(), 1, "{sent}");
    assert!(late.await.unwrap()[0].is_err(), "it waited beyond its deadline");
    let overloaded = fixture.metrics.store_errors.with_label_values(&["overloaded"]).get();
    assert_eq!(overloaded, 1, "of those that left none, of those that waited one");
}

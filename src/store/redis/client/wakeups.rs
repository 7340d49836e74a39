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
use super::calls_in_flight::CallsInFlight;
use super::job::{JobResults, QueuedCheck, Work};
use super::queue::{Queue, WaitingJobs};
use crate::limit::Charges;
use crate::store::CheckContext;
use crate::store::redis::connection::LiveConnection;
use crate::store::redis::{Redis, RedisOptions};
use crate::telemetry::Metrics;

const DEADLINE: Duration = Duration::from_mins(1);
/// The reply to a call with one check without charges, which is allowed.
const REPLY: &[u8] = b"*2\r\n:1700000000000000\r\n:1\r\n";

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
        let check = QueuedCheck::new(&Charges::new(), &CheckContext::NONE);
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

#[tokio::test]
async fn only_the_first_check_that_waits_for_a_reply_wakes_the_task() {
    let mut fixture = Fixture::new();
    let deadline = Instant::now() + DEADLINE;
    let first = fixture.enqueue(deadline);
    fixture.send().await;
    assert!(fixture.needs_arrivals());
    let waiting: Vec<_> = (0..3).map(|_| fixture.enqueue(deadline)).collect();
    assert!(fixture.waiting.arrival().await);
    // By a clock that may have passed the pause, a second call could leave now.
    let is_paused = fixture.pause_end().is_some();
    assert!(is_paused != fixture.needs_arrivals(), "either it waits for the pause or for arrivals");
    fixture.server.write_all(REPLY).await.unwrap();
    fixture.calls.next_end(&mut fixture.live).await.unwrap();
    assert!(first.await.unwrap()[0].is_ok());
    let call = fixture.send().await;
    // A connection that has not been probed calls the module.
    let commands = call.windows(8).filter(|bytes| bytes == b"TG.JUDGE").count();
    assert_eq!(commands, 1, "those that waited leave in one call");
    fixture.server.write_all(b"*4\r\n:1700000000000000\r\n:1\r\n:1\r\n:1\r\n").await.unwrap();
    fixture.calls.next_end(&mut fixture.live).await.unwrap();
    for result in waiting {
        assert!(result.await.unwrap()[0].is_ok());
    }
    assert_eq!(fixture.pause_end(), None);
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

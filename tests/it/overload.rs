//! Overload: a node with more checks than it can send to a Redis that replies. That is no outage,
//! so `on_store_failure` admits none of them; and one caller's checks take no call of their own
//! size.
//! Needs programs besides Rust, so `make fast` skips it.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;
use tollgate::algorithm::Throttle;
use tollgate::limit::{Charge, Charges, Limit, Subject, Unit};
use tollgate::store::{CheckContext, Redis, RedisOptions, StoreError};
use tollgate::telemetry::Metrics;

use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::RedisServer;
use crate::twins::options;

fn check(key: &str, limits: usize) -> Charges {
    let charge = |number: usize| {
        let throttle = Throttle::new("1/h".parse().unwrap(), 100).unwrap();
        let limit = Limit::new(&format!("l{number}"), Unit::requests(), throttle, false);
        Charge::new(Subject::policy("p", key), Arc::new(limit), 1)
    };
    (0..limits).map(charge).collect()
}

#[test]
fn a_script_call_has_at_most_512_charges_and_loses_none() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let redis = Redis::new(&options(&server.url()), Arc::new(Metrics::new()), None).unwrap();
        let client = redis.open_client().await;
        let checks: Vec<Charges> = (0..100).map(|_| check("k", 40)).collect();
        let before = server.script_calls();
        let soon = Instant::now() + Duration::from_secs(10);
        let answers = client.judge_all(&checks, &CheckContext::NONE, soon).await;
        assert_eq!(server.script_calls() - before, 9, "12 checks of 40 charges in each call");
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().verdict.allowed));
        let last = answers[99].as_ref().unwrap();
        assert!(last.verdict.states[0].level > 98 * 3_600_000_000, "each one was charged once");
        // Checks of many callers share calls under the same bound.
        let before = server.script_calls();
        let context = &CheckContext::NONE;
        let callers = (0..12).map(|_| client.judge(&checks[0], context, soon));
        let answers = futures_util::future::join_all(callers).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(server.script_calls() - before, 1, "480 charges");
        let largest = check("k", 240);
        let callers = (0..12).map(|_| client.judge(&largest, context, soon));
        let answers = futures_util::future::join_all(callers).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(server.script_calls() - before, 1 + 6, "2 checks of 240 charges in each call");
    });
}

#[test]
fn checks_beyond_the_queue_are_overloaded_and_the_circuit_breaker_stays_closed() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = RedisOptions { deadline: Duration::from_secs(5), ..options(&server.url()) };
        let redis = Redis::new(&options, Arc::new(Metrics::new()), None).unwrap();
        let client = redis.open_client().await;
        let (charges, context) = (check("k", 1), &CheckContext::NONE);
        let deadline = Instant::now() + options.deadline;
        let callers = (0..10_000).map(|_| client.judge(&charges, context, deadline));
        let answers = futures_util::future::join_all(callers).await;
        let allowed =
            answers.iter().filter(|answer| answer.as_ref().is_ok_and(|it| it.verdict.allowed));
        assert_eq!(allowed.count(), 100);
        let failed: Vec<&StoreError> = answers.iter().filter_map(|it| it.as_ref().err()).collect();
        assert!(!failed.is_empty());
        assert!(failed.iter().all(|error| matches!(error, StoreError::Overloaded)), "{failed:?}");
        assert!(!client.is_degraded());
    });
}

#[test]
fn a_flood_does_not_lift_the_limit_of_an_open_policy() {
    const CALLERS: usize = 24;
    let server = RedisServer::start();
    let catalog = "
version: 1
policies:
  - { name: open, throttle: { rate: 1/h, burst: 100 }, on_store_failure: open }
";
    let node = Node::with_catalog(catalog, &["--store", &server.url(), "--check-deadline", "10s"]);
    let mut checks = vec![json!({"policy": "open", "key": "k"}); 1000];
    // With a reservation among them they do not wait for each other.
    checks[0] = json!({"policy": "open", "key": "k", "reservation": {}});
    let body = json!({"checks": checks}).to_string();
    // Redis stands still until the queue is full: how fast either of them is does not matter.
    server.signal(Signal::STOP);
    let results: Vec<Value> = std::thread::scope(|scope| {
        let send = || node.send("POST", "/check/batch", &[], &body).json();
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(send)).collect();
        eventually("the queue is full", || {
            node.metric("tollgate_store_errors_total", "kind=\"overloaded\"") > 0.0
        });
        server.signal(Signal::CONT);
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let results: Vec<&Value> =
        results.iter().flat_map(|body| body["results"].as_array().unwrap()).collect();
    assert_eq!(results.len(), CALLERS * 1000);
    let allowed = results.iter().filter(|result| result["allowed"] == true).count();
    assert!(allowed <= 100, "{allowed} were allowed");
    let overloaded: Vec<&&Value> =
        results.iter().filter(|result| result["decided_by"] == "overload").collect();
    assert!(!overloaded.is_empty(), "the flood is smaller than the queue");
    for result in &overloaded {
        assert_eq!((&result["status"], &result["allowed"]), (&json!(503), &json!(false)));
        assert_eq!(result["retry_after_ms"], 1000);
    }
    let by_fallback = results.iter().filter(|result| result["decided_by"] == "fallback");
    assert_eq!(by_fallback.count(), 0);
    let counted = node.metric("tollgate_decisions_total", "outcome=\"overloaded\"");
    assert_eq!(counted, overloaded.len() as f64);
}

//! Leases on real nodes: a hot key at memory speed, never over the bound, and no lost units.
//! Needs programs besides Rust, so `make fast` skips it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::http::KeepAlive;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

const BURST: f64 = 1000.0;
const RATE: f64 = 2000.0;
/// The lifetime of a lease in seconds.
const LEASE_LIFETIME_SECS: f64 = 0.2;

const CATALOG: &str = r#"
version: 1
apis: [ { id: a, stages: [ { name: any, methods: { "*": { throttle: { rate: 1000/h, burst: 1000000 } } }, consistency: leased } ] } ]
policies:
  - { name: hot, throttle: { rate: 2000/s, burst: 1000 }, consistency: leased }
  - { name: vast, throttle: { rate: 1000000/s, burst: 1000000 }, consistency: leased }
  - { name: deep, throttle: { rate: 400/s, burst: 1000000 }, consistency: leased }
  - { name: over, throttle: { rate: 400/s, burst: 400 }, consistency: leased }
  - { name: small, throttle: { rate: 10/s, burst: 5 }, consistency: leased }
  - { name: two, throttle: { rate: 200/s, burst: 100000 }, consistency: leased, limits: [ { name: few, throttle: { rate: 1/h, burst: 300 }, consistency: exact } ] }
  - { name: counted, quota: { limit: 100, period: day }, consistency: leased }
"#;

fn nodes(redis: &RedisServer, count: usize) -> Vec<Node> {
    let flags = [
        "--store",
        &redis.url(),
        "--check-deadline",
        "5s",
        "--drain-delay",
        "0s",
        "--min-nodes",
        &count.to_string(),
    ];
    (0..count).map(|_| Node::with_catalog(CATALOG, &flags)).collect()
}

/// Sends checks to all `addresses` as fast as possible for `time`. Returns the number of admitted
/// requests and the time that it took in seconds.
fn hammer(addresses: &[&str], time: Duration, meanwhile: impl FnOnce()) -> (f64, f64) {
    let (stop, admitted) = (AtomicBool::new(false), AtomicUsize::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for address in addresses.iter().chain(addresses) {
            scope.spawn(|| {
                // A node is killed during one phase, so its address may not accept connections.
                let Ok(mut connection) = KeepAlive::open(address) else { return };
                while !stop.load(Ordering::Relaxed) {
                    let Some(answer) = connection.post("/check", r#"{"policy":"hot","key":"a"}"#)
                    else {
                        break;
                    };
                    assert!(answer.status == 200 || answer.status == 429, "{answer:?}");
                    admitted.fetch_add(usize::from(answer.status == 200), Ordering::Relaxed);
                }
            });
        }
        meanwhile();
        std::thread::sleep(time.saturating_sub(began.elapsed()));
        stop.store(true, Ordering::Relaxed);
    });
    (admitted.load(Ordering::Relaxed) as f64, began.elapsed().as_secs_f64())
}

#[test]
fn a_hot_key_stays_within_the_bound_and_close_to_its_rate() {
    let redis = RedisServer::start();
    let mut nodes = nodes(&redis, 3);
    let addresses: Vec<String> = nodes.iter().map(|node| node.address().to_owned()).collect();
    let all: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let (mut admitted, mut took) = (0.0, 0.0);
    let began = Instant::now();
    let mut phase = |addresses: &[&str], seconds: u64, meanwhile: &mut dyn FnMut()| {
        let (more, _) = hammer(addresses, Duration::from_secs(seconds), meanwhile);
        admitted += more;
        took = began.elapsed().as_secs_f64();
        // Counted from the first check on, so that no phase can make up for an excess before it.
        assert!(admitted <= BURST + RATE * (took + LEASE_LIFETIME_SECS), "{admitted} in {took} s");
        assert!(admitted >= 0.97 * RATE * took, "only {admitted} in {took} s");
    };
    phase(&all, 12, &mut || {});
    phase(&all[..1], 8, &mut || {});
    phase(&all, 10, &mut || nodes[2].signal(Signal::KILL));
    let by_lease: f64 = nodes[..2]
        .iter()
        .map(|node| node.metric("tollgate_decisions_total", r#"outcome="allowed""#))
        .sum();
    assert!(by_lease > 0.0);
    nodes.truncate(2);
}

#[test]
fn a_busy_node_far_over_a_limit_makes_few_calls_for_all_its_workers_and_connections() {
    for count in [1, 3] {
        let redis = RedisServer::start();
        let (url, min_nodes) = (redis.url(), count.to_string());
        let flags = ["--store", &url, "--workers", "8", "--min-nodes", &min_nodes];
        let nodes: Vec<Node> = (0..count).map(|_| Node::with_catalog(CATALOG, &flags)).collect();
        let address = nodes[0].address();
        let (admitted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let count_now = |counted: &AtomicUsize| counted.load(Ordering::Relaxed);
        let is_spent = || count_now(&refused) > 100;
        let ends = std::sync::OnceLock::new();
        let latest = Instant::now() + Duration::from_mins(1);
        let check = || {
            let mut connection = KeepAlive::open(address).unwrap();
            while Instant::now() < *ends.get().unwrap_or(&latest) {
                let answer = connection.post("/check", r#"{"policy":"over","key":"a"}"#).unwrap();
                let counted = if answer.status == 200 { &admitted } else { &refused };
                counted.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(check);
            }
            crate::support::eventually("the burst is spent", is_spent);
            let (began, calls, before) =
                (Instant::now(), redis.script_calls(), count_now(&admitted));
            // As many as the limit admits in two seconds.
            let is_done = || count_now(&admitted) >= before + 800;
            crate::support::eventually("800 more are admitted", is_done);
            let (calls, admitted) = (redis.script_calls() - calls, count_now(&admitted) - before);
            let took = began.elapsed().as_secs_f64();
            ends.get_or_init(Instant::now);
            // A slow machine makes fewer pauses, and so fewer calls.
            assert!(calls as f64 <= 100.0 * took, "{count} nodes: {calls} calls in {took} s");
            assert!(admitted as f64 >= 0.9 * 400.0 * took, "{count} nodes: {admitted} in {took} s");
        });
    }
}

#[test]
fn a_hot_key_far_below_its_limit_needs_few_calls_to_redis() {
    let redis = RedisServer::start();
    let node = nodes(&redis, 1).remove(0);
    let calls = || node.metric("tollgate_store_batch_checks_count", "");
    let mut connection = KeepAlive::open(node.address()).unwrap();
    let mut by_lease = 0;
    let (before, checks) = (calls(), 5_000);
    for _ in 0..checks {
        let answer = connection.post("/check", r#"{"policy":"vast","key":"a"}"#).unwrap();
        assert_eq!(answer.status, 200);
        by_lease += usize::from(answer.json()["decided_by"] == "lease");
    }
    assert!(by_lease > checks * 9 / 10, "{by_lease} of {checks}");
    assert!(calls() - before < 500.0, "{} calls", calls() - before);
    let answer = connection.post("/check", r#"{"policy":"vast","key":"a"}"#).unwrap().json();
    let left = answer["limits"][0]["remaining"].as_u64().unwrap();
    assert!((990_000..=1_000_000).contains(&left), "{answer}");
}

#[test]
fn unspent_leases_are_refunded_when_idle_and_when_the_node_stops() {
    let redis = RedisServer::start();
    let spend = |node: &Node, key: &str| {
        let mut connection = KeepAlive::open(node.address()).unwrap();
        let body = json!({"policy": "deep", "key": key}).to_string();
        let mut by_lease = 0;
        let mut first = None;
        for _ in 0..2_000 {
            let answer = connection.post("/check", &body).unwrap();
            first.get_or_insert_with(Instant::now);
            by_lease += usize::from(answer.json()["decided_by"] == "lease");
        }
        assert!(by_lease > 1_000, "{by_lease} by lease");
        first.unwrap()
    };
    // About a thousand units are leased. The bucket's level is the cost of all requests, less what
    // has drained since, and less the refund: the unspent units minus what drained while they were
    // leased, here for no longer than a second.
    let is_exact = |node: &Node, key: &str, first: Instant| {
        let passed = first.elapsed().as_secs_f64();
        let answer = node.check(json!({"policy": "deep", "key": key, "cost": 0})).json();
        let used = 1_000_000.0 - answer["limits"][0]["remaining"].as_f64().unwrap();
        used <= 2_000.0 - 400.0 * passed + 400.0
    };
    let node = nodes(&redis, 1).remove(0);
    let first = spend(&node, "idle");
    crate::support::eventually("the lease is refunded", || is_exact(&node, "idle", first));
    let first = spend(&node, "stops");
    assert_eq!(node.stop(), Some(0));
    let other = nodes(&redis, 1).remove(0);
    assert!(is_exact(&other, "stops", first));
}

#[test]
fn small_limits_and_quotas_stay_exact() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 2);
    for (policy, admitted) in [("small", 5), ("counted", 100)] {
        let passed = (0..120)
            .take_while(|number| {
                let answer =
                    nodes[number % 2].check(json!({"policy": policy, "key": "a", "cost": 1}));
                assert_ne!(answer.json()["decided_by"], "lease");
                answer.status == 200
            })
            .count();
        assert!(passed >= admitted && passed <= admitted + 2, "{policy}: {passed}");
    }
}

#[test]
fn retry_after_of_a_leased_limit_is_the_time_for_which_its_units_gather() {
    let redis = RedisServer::start();
    let node = &nodes(&redis, 1)[0];
    // A unit drains in 2.5 ms, and units gather for 50. On a slow machine most have gathered before
    // the response is made.
    let is_the_pause = (0..100).any(|attempt| {
        let check = |cost: u64| {
            let key = format!("k{attempt}");
            node.check(json!({"policy": "over", "key": key, "cost": cost}))
        };
        let spent = check(400);
        assert!(spent.status == 200, "{spent:?}");
        let refused = (0..50).map(|_| check(1)).find(|response| response.status == 429);
        let Some(refused) = refused else { return false };
        let body = refused.json();
        let wait = body["retry_after_ms"].as_u64().unwrap();
        assert!(wait <= 51, "{body}");
        assert_eq!(body["limits"][0]["retry_after_ms"], wait, "{body}");
        wait > 10
    });
    assert!(is_the_pause, "no refusal named the pause");
}

#[test]
fn methods_that_the_catalog_does_not_list_are_not_leased() {
    let redis = RedisServer::start();
    let node = nodes(&redis, 1).remove(0);
    let mut connection = KeepAlive::open(node.address()).unwrap();
    let body = json!({"policy": "vast", "key": "a", "api": "a", "stage": "any", "method": "GET", "path": "/x"});
    let answers = (0..2_000).map(|_| connection.post("/check", &body.to_string()).unwrap().json());
    let left = |answer: serde_json::Value| answer["limits"][0]["remaining"].as_u64().unwrap();
    let left = answers.last().map(left).unwrap();
    assert!((998_000..998_050).contains(&left), "{left}");
}

#[test]
fn a_changed_limit_ends_its_leases_at_once() {
    let redis = RedisServer::start();
    let node = nodes(&redis, 1).remove(0);
    let mut connection = KeepAlive::open(node.address()).unwrap();
    let mut check = || connection.post("/check", r#"{"policy":"vast","key":"a"}"#).unwrap().json();
    crate::support::eventually("there is a lease", || check()["decided_by"] == "lease");
    std::fs::write(
        node.catalog_file(),
        CATALOG.replace("rate: 1000000/s, burst: 1000000", "rate: 1/h, burst: 1"),
    )
    .unwrap();
    crate::support::eventually("the new limit refuses", || check()["allowed"] == false);
    assert_eq!(check()["allowed"], false, "the old lease is not spent after that");
}

#[test]
fn units_leased_for_a_check_that_redis_refuses_are_put_back() {
    let redis = RedisServer::start();
    let flags = ["--store", &redis.url(), "--check-deadline", "5s"];
    // Without the denial memo, so that each refusal comes from Redis.
    let node = Node::launch(Some(CATALOG), &flags, &[("TOLLGATE_DENIAL_MEMO", "false")]);
    let mut connection = KeepAlive::open(node.address()).unwrap();
    let mut check = |cost: u64| {
        let body = json!({"policy": "two", "key": "a", "cost": cost}).to_string();
        connection.post("/check", &body).unwrap()
    };
    let admitted = (0..3_000).filter(|_| check(1).status == 200).count();
    assert_eq!(admitted, 300);
    let peek = check(0);
    let remaining = peek.json()["limits"][0]["remaining"].as_u64().unwrap();
    // Only the units that are leased now may be missing, not those of 2,700 refused checks.
    assert!(remaining > 98_000, "{peek:?}");
}

#[test]
fn a_report_is_taken_from_a_lease_and_what_no_lease_covers_is_charged_in_any_case() {
    let redis = RedisServer::start();
    let node = nodes(&redis, 1).remove(0);
    let mut connection = KeepAlive::open(node.address()).unwrap();
    let mut report = |policy: &str, cost: u64| {
        let body = json!({"policy": policy, "key": "r", "cost": cost, "after_the_fact": true});
        let answer = connection.post("/check", &body.to_string()).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    crate::support::eventually("a lease covers reports", || {
        report("vast", 1)["decided_by"] == "lease"
    });
    let over = report("deep", 2_000_000);
    assert_eq!((&over["decided_by"], &over["allowed"]), (&json!("redis"), &json!(false)));
    assert_eq!(over["limits"][0]["debt"], 1_000_000);
    assert_eq!(node.check(json!({"policy": "deep", "key": "r"})).status, 429, "no lease in debt");
    // The exact limit of 300 has no room for the last ones, and the leased one is charged for all.
    let began = Instant::now();
    for _ in 0..2_000 {
        report("two", 1);
    }
    let rows = node.check(json!({"policy": "two", "key": "r", "cost": 0})).json()["limits"].clone();
    assert_eq!(rows[1]["debt"], 1_700);
    let used = 100_000 - rows[0]["remaining"].as_u64().unwrap();
    assert!(used as f64 >= 2_000.0 - 200.0 * began.elapsed().as_secs_f64() - 1.0, "{rows}");
}

//! Leases on real nodes: a hot key at memory speed, never over the bound, and nothing stranded.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::http::Kept;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

const BURST: f64 = 1000.0;
const RATE: f64 = 2000.0;
/// A lease's life in seconds.
const LIFE: f64 = 0.2;

const CATALOG: &str = r#"
version: 1
policies:
  - { name: hot, throttle: { rate: 2000/s, burst: 1000 }, consistency: leased }
  - { name: vast, throttle: { rate: 1000000/s, burst: 1000000 }, consistency: leased }
  - { name: small, throttle: { rate: 10/s, burst: 5 }, consistency: leased }
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

/// Asks as fast as it can at all `addresses` for `time`; how many checks passed, and how long it took.
fn hammer(addresses: &[&str], time: Duration, meanwhile: impl FnOnce()) -> (f64, f64) {
    let (stop, admitted) = (AtomicBool::new(false), AtomicUsize::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for address in addresses.iter().chain(addresses) {
            scope.spawn(|| {
                let mut connection = Kept::open(address).unwrap();
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
fn a_hot_key_stays_within_the_bound_and_strands_nothing() {
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
        // From the very first check on: no phase may take back what an earlier one overdrew.
        assert!(admitted <= BURST + RATE * (took + LIFE), "{admitted} in {took} s");
        assert!(admitted >= 0.97 * RATE * took, "only {admitted} in {took} s");
    };
    phase(&all, 6, &mut || {});
    phase(&all[..1], 4, &mut || {});
    phase(&all, 5, &mut || nodes[2].signal(Signal::KILL));
    let by_lease: f64 = nodes[..2]
        .iter()
        .map(|node| node.metric("tollgate_decisions_total", r#"outcome="allowed""#))
        .sum();
    assert!(by_lease > 0.0);
    nodes.truncate(2);
}

#[test]
fn a_hot_key_far_below_its_limit_hardly_asks_redis() {
    let redis = RedisServer::start();
    let node = nodes(&redis, 1).remove(0);
    let calls = || node.metric("tollgate_store_batch_checks_count", "");
    let mut connection = Kept::open(node.address()).unwrap();
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
fn a_changed_limit_ends_its_leases_at_once() {
    let redis = RedisServer::start();
    let node = nodes(&redis, 1).remove(0);
    let mut connection = Kept::open(node.address()).unwrap();
    let mut ask = || connection.post("/check", r#"{"policy":"vast","key":"a"}"#).unwrap().json();
    crate::support::eventually("there is a lease", || ask()["decided_by"] == "lease");
    std::fs::write(
        node.catalog_file(),
        CATALOG.replace("rate: 1000000/s, burst: 1000000", "rate: 1/h, burst: 1"),
    )
    .unwrap();
    crate::support::eventually("the new limit refuses", || ask()["allowed"] == false);
    assert_eq!(ask()["allowed"], false, "and nothing of the old lease is spent after it");
}

//! Concurrency limits: a reservation holds a slot until it is settled or cancelled, or until its
//! time is over.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::json;
use tollgate::time::Micros;

use super::{cancel, handle, left, post};
use crate::support::eventually;
use crate::support::http::Response;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

const CATALOG: &str = r#"
version: 1
plans:
  - id: pro
    throttle: { rate: 1/h, burst: 100 }
    limits:
      - { name: streams, concurrency: { limit: 2, ttl: 30s } }
  - id: large
    limits:
      - { name: streams, concurrency: { limit: 5, ttl: 1h } }
      - { name: watched, concurrency: { limit: 1, ttl: 20s }, mode: shadow }
      - { name: rpd, quota: { limit: 100, period: month } }
keys:
  - { id: alice, value: alice-key, plans: [pro] }
  - { id: bob, value: bob-key, plans: [pro], overrides: { pro: { limits: { streams: { concurrency: { limit: 1, ttl: 1s } } } } } }
  - { id: carol, value: carol-key, plans: [large] }
"#;

fn on_both(test: impl Fn(&Node)) {
    test(&Node::with_catalog(CATALOG, &[]));
    let redis = RedisServer::start();
    test(&Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]));
}

fn reserve(node: &Node, key: &str) -> Response {
    node.check(json!({"api_key": key, "reservation": {}}))
}

fn extend(node: &Node, handle: &str) -> serde_json::Value {
    let answer = post(node, "/reservations/extend", json!({"handle": handle}));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[test]
fn a_reservation_holds_one_slot_whatever_its_cost_until_it_has_ended() {
    on_both(|node| {
        let first = node.check(json!({"api_key": "alice-key", "cost": 7, "reservation": {}}));
        assert_eq!(left(&first.json()), [93, 1]);
        assert_eq!(first.json()["reservation"]["reserved"]["requests"], 7);
        let second = reserve(node, "alice-key");
        let refused = reserve(node, "alice-key");
        assert_eq!(refused.status, 429);
        let body = refused.json();
        assert_eq!((body["violated"].as_str(), left(&body)), (Some("pro/streams"), vec![92, 0]));
        assert_eq!(body["retry_after_ms"], 1_000, "a slot may be free at any moment");
        let policy = refused.header("ratelimit-policy").unwrap();
        assert!(policy.contains(r#""pro/streams";q=2;qu="concurrent-requests""#), "{policy}");
        let body = json!({"handle": handle(&first), "actual": {"requests": 3}});
        let settled = post(node, "/reservations/settle", body).json();
        assert_eq!((&settled["charged"]["requests"], left(&settled)), (&json!(3), vec![96, 1]));
        assert_eq!(reserve(node, "alice-key").status, 200);
        assert_eq!(cancel(node, &handle(&second)).status, 200);
        assert_eq!(reserve(node, "alice-key").status, 200);
        assert_eq!(reserve(node, "alice-key").status, 429);
    });
}

#[test]
fn a_check_without_a_reservation_only_looks_or_reports() {
    on_both(|node| {
        let bare = node.check(json!({"api_key": "alice-key"}));
        assert_eq!((bare.status, bare.json()["field"].as_str()), (400, Some("reservation")));
        assert!(
            bare.body.contains("pro/streams") && bare.body.contains("`reservation`"),
            "{bare:?}"
        );
        let batch = post(node, "/check/batch", json!({"checks": [{"api_key": "alice-key"}]}));
        assert_eq!(batch.json()["results"][0]["status"], 400);
        let authz = node.send("GET", "/authz", &[("x-api-key", "alice-key")], "");
        assert_eq!(authz.status, 400);
        assert!(authz.body.contains("/authz cannot"), "{authz:?}");
        let look = node.check(json!({"api_key": "alice-key", "cost": 0}));
        assert_eq!((look.status, left(&look.json())), (200, vec![100, 2]), "nothing was charged");
        let report = json!({"api_key": "alice-key", "cost": 3, "after_the_fact": true});
        assert_eq!(left(&node.check(report).json()), [97, 2]);
    });
}

#[test]
fn the_shortest_ttl_of_its_slots_is_the_longest_of_a_reservation() {
    on_both(|node| {
        let ttl =
            |body: serde_json::Value| node.check(body).json()["reservation"]["ttl_ms"].clone();
        assert_eq!(ttl(json!({"api_key": "alice-key", "reservation": {}})), 30_000);
        let long = json!({"api_key": "alice-key", "reservation": {"ttl_ms": 60_000}});
        assert_eq!(ttl(long), 30_000);
        let several = json!({"api_key": "carol-key", "reservation": {"ttl_ms": 60_000}});
        assert_eq!(ttl(several), 20_000);
        let short = node.check(json!({"api_key": "carol-key", "reservation": {"ttl_ms": 5_000}}));
        assert_eq!(short.json()["reservation"]["ttl_ms"], 5_000);
        let longer = json!({"handle": handle(&short), "ttl_ms": 60_000});
        assert_eq!(post(node, "/reservations/extend", longer).json()["ttl_ms"], 20_000);
    });
}

#[test]
fn a_limit_in_shadow_refuses_no_check_and_counts_none() {
    on_both(|node| {
        for _ in 0..3 {
            assert_eq!(reserve(node, "carol-key").status, 200);
        }
        assert_eq!(left(&reserve(node, "carol-key").json()), [1, 0, 96]);
    });
}

#[test]
fn leaked_slots() {
    on_both(|node| {
        assert_eq!(reserve(node, "bob-key").status, 200);
        assert_eq!(reserve(node, "bob-key").status, 429);
        eventually("the slot of a second is free", || reserve(node, "bob-key").status == 200);
        let expired =
            node.metric("tollgate_slots_expired_total", r#"limit="pro/streams",plan="pro""#);
        assert_eq!(expired, 1.0);
    });
}

#[test]
fn clock_back_holds_slots() {
    let redis = RedisServer::start_with_clock();
    let start = 1_900_000_000;
    let set_clock = |secs: u64| redis.set_clock(Micros::from_secs(secs));
    set_clock(start);
    let node = Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]);
    let [kept, _leaked] = [reserve(&node, "alice-key"), reserve(&node, "alice-key")];
    set_clock(start - 86_400);
    assert_eq!(reserve(&node, "alice-key").status, 429);
    set_clock(start - 86_400 + 20);
    assert_eq!(extend(&node, &handle(&kept))["stop"], false);
    assert_eq!(reserve(&node, "alice-key").status, 429);
    set_clock(start - 86_400 + 30);
    let third = reserve(&node, "alice-key");
    assert_eq!(third.status, 200, "{third:?}");
    assert_eq!(reserve(&node, "alice-key").status, 429, "the extended slot is held");
}

#[test]
fn a_stream_that_lost_its_slot_gets_it_back_and_only_those_too_many_have_to_stop() {
    let redis = RedisServer::start_with_clock();
    let start = 1_900_000_000;
    redis.set_clock(Micros::from_secs(start));
    let node = Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]);
    let lost = handle(&reserve(&node, "alice-key"));
    redis.set_clock(Micros::from_secs(start + 31));
    let others = [(); 2].map(|()| handle(&reserve(&node, "alice-key")));
    let answer = extend(&node, &lost);
    assert_eq!((&answer["stop"], &answer["violated"]), (&json!(true), &json!("pro/streams")));
    assert_eq!(answer["limits"][1]["debt"], 1);
    for other in &others {
        assert_eq!(extend(&node, other)["stop"], false);
    }
    assert_eq!(cancel(&node, &others[0]).status, 200);
    assert_eq!(extend(&node, &lost)["stop"], false, "it is within the limit again");
}

#[test]
fn slots_are_recorded_and_the_reference_decides_the_same() {
    let redis = RedisServer::start();
    for store in ["memory", &redis.url()] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("record").display().to_string();
        let flags = ["--store", store, "--check-deadline", "5s", "--record", &file];
        let node = Node::with_catalog(CATALOG, &flags);
        let [first, second] = [(); 2].map(|()| handle(&reserve(&node, "alice-key")));
        assert_eq!(reserve(&node, "alice-key").status, 429);
        extend(&node, &first);
        cancel(&node, &second);
        assert_eq!(node.check(json!({"api_key": "alice-key", "cost": 0})).status, 200);
        assert_eq!(node.stop(), Some(0));
        let recorded = std::fs::read_to_string(&file).unwrap();
        assert_eq!(tollgate::engine::replay(&recorded).unwrap(), 6);
        assert!(recorded.contains(r#""concurrency":{"limit":2,"ttl_us":30000000}"#), "{recorded}");
    }
}

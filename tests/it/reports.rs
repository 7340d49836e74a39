//! Reports: charges of what has already been used, over HTTP. They are made in any case, and what
//! they leave above a limit is debt, which refuses whatever comes next.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::{Value, json};
use tollgate::time::Micros;

use crate::support::eventually;
use crate::support::http::Response;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

/// Every limit has 1,000 tokens, and next to nothing drains while a test runs.
pub const CATALOG: &str = r#"
version: 1
plans:
  - id: bucket
    limits: [ { name: tpm, unit: total_tokens, throttle: { rate: 24/d, burst: 1000 } } ]
  - id: window
    limits: [ { name: tpd, unit: total_tokens, quota: { limit: 1000, period: month } } ]
  - id: both
    limits:
      - { name: tpm, unit: total_tokens, throttle: { rate: 24/d, burst: 1000 } }
      - { name: tpd, unit: total_tokens, quota: { limit: 2000, period: month } }
      - { name: tried, unit: total_tokens, quota: { limit: 10, period: month }, mode: shadow }
keys:
  - { id: bucket, value: bucket-key, plans: [bucket] }
  - { id: window, value: window-key, plans: [window] }
  - { id: both, value: both-key, plans: [both] }
  - { id: off, value: off-key, plans: [bucket], enabled: false }
  - { id: old, value: old-key, plans: [bucket], expires_at: "2020-01-01T00:00:00Z" }
policies:
  - { name: open, throttle: { rate: 1/h, burst: 8 } }
  - { name: closed, throttle: { rate: 1/h, burst: 8 }, on_store_failure: closed }
  - { name: local, throttle: { rate: 1/h, burst: 8 }, on_store_failure: local }
  - { name: tried, throttle: { rate: 1/h, burst: 8 }, mode: shadow }
  - { name: quick, throttle: { rate: 10/s, burst: 1 } }
  - { name: huge, quota: { limit: 9007199254740991, period: day } }
"#;

/// Runs a test on a node with the memory store and on one with Redis.
fn on_both(test: impl Fn(&Node)) {
    test(&Node::with_catalog(CATALOG, &[]));
    let redis = RedisServer::start();
    test(&Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]));
}

fn tokens(node: &Node, key: &str, tokens: u64) -> Response {
    node.check(json!({"api_key": key, "cost": {"total_tokens": tokens, "requests": 0}}))
}

fn report(node: &Node, key: &str, tokens: u64) -> Value {
    let cost = json!({"total_tokens": tokens, "requests": 0});
    let answer = node.check(json!({"api_key": key, "cost": cost, "after_the_fact": true}));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("retry-after"), None, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    answer.json()
}

fn report_requests(node: &Node, policy: &str, cost: u64) -> Response {
    node.check(json!({"policy": policy, "key": "a", "cost": cost, "after_the_fact": true}))
}

/// A fault of other limiters: each request looks, and is charged at its end only what still fits.
#[test]
fn after_the_fact_is_free() {
    on_both(|node| {
        for key in ["bucket-key", "window-key"] {
            let passes = || {
                let passed = tokens(node, key, 0).status == 200;
                if passed {
                    report(node, key, 400);
                }
                passed
            };
            assert_eq!((0..20).filter(|_| passes()).count(), 3, "{key}: 1,000 tokens");
        }
    });
}

/// A fault of other limiters: an answer larger than the limit is not charged at all.
#[test]
fn overshoot_dropped() {
    on_both(|node| {
        for key in ["bucket-key", "window-key"] {
            assert_eq!(tokens(node, key, 1200).status, 422, "as a check it can never fit");
            let reported = report(node, key, 1200);
            assert_eq!(reported["allowed"], false, "{reported}");
            let limit = &reported["limits"][0];
            assert_eq!(reported["violated"], limit["name"], "{reported}");
            assert_eq!((&limit["remaining"], &limit["debt"]), (&json!(0), &json!(200)));
            let look = tokens(node, key, 0);
            assert_eq!((look.status, &look.json()["limits"][0]["debt"]), (429, &json!(200)));
            let row = look.header("ratelimit").unwrap().to_owned();
            assert!(row.contains(";r=0;"), "{row}");
        }
    });
}

#[test]
fn a_report_says_how_the_subject_stands_now() {
    on_both(|node| {
        let fitting = report(node, "both-key", 1000);
        assert_eq!((&fitting["allowed"], &fitting["violated"]), (&json!(true), &Value::Null));
        assert_eq!(fitting["limits"][0]["debt"], Value::Null, "a full bucket is not in debt");
        let shadow = &fitting["limits"][2];
        assert_eq!((&shadow["debt"], &shadow["allowed"]), (&json!(990), &json!(false)));
        assert_eq!(tokens(node, "both-key", 0).status, 200, "nothing refuses a look yet");
        let over = report(node, "both-key", 500);
        assert_eq!((&over["allowed"], &over["violated"]), (&json!(false), &json!("both/tpm")));
        assert_eq!(over["violated-policies"], Value::Null, "it is no problem");
        assert_eq!(over["limits"][1]["remaining"], 500);
        // Naming the unit with 0 is a look as well, and whoever is in debt stays so.
        assert_eq!(report(node, "both-key", 0)["violated"], "both/tpm");
        assert_eq!(report(node, "both-key", 0)["limits"][0]["debt"], 500);
    });
}

#[test]
fn the_retry_after_of_a_subject_in_debt_is_when_it_has_been_paid() {
    let redis = RedisServer::start_with_clock();
    let flags = ["--store", &redis.url(), "--check-deadline", "5s", "--denial-memo", "false"];
    let node = Node::with_catalog(CATALOG, &flags);
    let start = Micros::from_secs(1_800_000_000);
    redis.set_clock(start);
    let reported = report_requests(&node, "quick", 21).json();
    assert_eq!(
        (&reported["limits"][0]["debt"], &reported["retry_after_ms"]),
        (&json!(20), &json!(2_000))
    );
    for (cost, wait) in [(0, 2_000), (1, 2_100)] {
        let refused = node.check(json!({"policy": "quick", "key": "a", "cost": cost}));
        assert_eq!(refused.json()["retry_after_ms"], wait, "{refused:?}");
    }
    redis.set_clock(start + Micros::new(1_999_999));
    assert!(!node.passes("quick", "a", 0));
    redis.set_clock(start + Micros::new(2_000_000));
    assert!(node.passes("quick", "a", 0) && !node.passes("quick", "a", 1));
    redis.set_clock(start + Micros::new(2_100_000));
    assert!(node.passes("quick", "a", 1));
}

#[test]
fn reports_are_charged_to_shadow_limits_and_to_keys_that_may_not_be_used_any_more() {
    on_both(|node| {
        assert_eq!(report_requests(node, "tried", 9).json()["limits"][0]["debt"], 1);
        assert_eq!(report_requests(node, "tried", 1).json()["limits"][0]["debt"], 2);
        for key in ["off-key", "old-key"] {
            assert_eq!(tokens(node, key, 0).status, 403);
            assert_eq!(report(node, key, 600)["limits"][0]["remaining"], 400);
            assert_eq!(report(node, key, 600)["limits"][0]["debt"], 200);
        }
        let unknown = json!({"api_key": "nobody", "cost": 1, "after_the_fact": true});
        assert_eq!(node.check(unknown).status, 403);
    });
}

#[test]
fn a_report_charges_every_limit_of_its_check_and_counts_never_overflow() {
    on_both(|node| {
        let all = json!({"api_key": "bucket-key", "policies": [{"policy": "quick", "key": "x"}],
            "cost": {"requests": 3, "total_tokens": 7}, "after_the_fact": true});
        let rows = node.check(all).json()["limits"].clone();
        assert_eq!((&rows[0]["remaining"], &rows[1]["debt"]), (&json!(993), &json!(2)));
        let most = 9_007_199_254_740_991_u64;
        for _ in 0..3 {
            report_requests(node, "huge", most + 1);
        }
        let rows = node.check(json!({"policy": "huge", "key": "a", "cost": 0})).json();
        assert_eq!((&rows["limits"][0]["remaining"], &rows["allowed"]), (&json!(0), &json!(true)));
        assert_eq!(report_requests(node, "quick", most + 1).status, 200);
        assert!(!node.passes("quick", "a", 0));
    });
}

#[test]
fn a_report_takes_the_usage_that_a_provider_sent() {
    on_both(|node| {
        let usage = json!({"prompt_tokens": 700, "completion_tokens": 500, "total_tokens": 1200});
        let body = json!({"api_key": "window-key", "usage": usage, "after_the_fact": true});
        let reported = node.check(body);
        assert_eq!((reported.status, &reported.json()["limits"][0]["debt"]), (200, &json!(200)));
    });
}

#[test]
fn a_batch_takes_reports_among_checks_in_order() {
    on_both(|node| {
        let check = |cost: u64, report: bool| json!({"policy": "open", "key": "b", "cost": cost, "after_the_fact": report});
        let checks = [check(0, false), check(9, true), check(0, false), check(9, true)];
        let answer = node.send("POST", "/check/batch", &[], &json!({"checks": checks}).to_string());
        let results = answer.json()["results"].as_array().unwrap().clone();
        let statuses: Vec<_> = results.iter().map(|result| result["status"].clone()).collect();
        assert_eq!(statuses, [200, 200, 429, 200], "{results:?}");
        assert_eq!(results[3]["limits"][0]["debt"], 10);
        assert_eq!(results[1]["type"], Value::Null, "a report is never a problem");
    });
}

#[test]
fn a_report_that_is_malformed_charges_nothing_and_names_the_member() {
    on_both(|node| {
        for wrong in [json!("true"), json!(1), json!({})] {
            let body = json!({"policy": "open", "key": "c", "cost": 3, "after_the_fact": wrong});
            let answer = node.check(body);
            assert_eq!(answer.status, 400, "{answer:?}");
            assert_eq!(answer.json()["field"], "after_the_fact", "{answer:?}");
        }
        let none = json!({"policy": "open", "key": "c", "cost": 8, "after_the_fact": null});
        assert_eq!(node.check(none).json()["limits"][0]["remaining"], 0, "null is absent");
    });
}

#[test]
fn a_denial_memo_answers_no_report_and_keeps_none() {
    let redis = RedisServer::start();
    let node = Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]);
    assert!(node.passes("open", "a", 8) && !node.passes("open", "a", 1));
    for debt in 1..=3 {
        let reported = report_requests(&node, "open", 1).json();
        assert_eq!(reported["limits"][0]["debt"], debt, "{reported}");
        assert_eq!(reported["decided_by"], "redis", "{reported}");
    }
}

#[test]
fn a_lost_store_charges_a_report_to_the_nodes_share_or_answers_503() {
    let mut redis = RedisServer::start();
    let url = redis.url();
    let flags = ["--store", &url, "--check-deadline", "100ms", "--min-nodes", "2"];
    let node = Node::with_catalog(CATALOG, &flags);
    assert_eq!(report_requests(&node, "open", 1).status, 200);
    redis.kill();
    eventually("the node decides alone", || {
        node.check(json!({"policy": "local", "key": "x"})).json()["decided_by"] == "fallback"
    });
    for policy in ["open", "closed", "tried"] {
        let lost = report_requests(&node, policy, 1);
        assert_eq!(lost.status, 503, "{lost:?}");
        assert_eq!(lost.json()["title"], "Report may be lost");
    }
    // Half of 8, since there are at least two nodes.
    let share = report_requests(&node, "local", 3);
    assert_eq!((share.status, &share.json()["allowed"]), (200, &json!(true)), "{share:?}");
    let above = report_requests(&node, "local", 7);
    assert_eq!((above.status, &above.json()["allowed"]), (200, &json!(false)), "{above:?}");
    assert_eq!(above.json()["violated"], "policy:local/throttle");
    assert_eq!(node.check(json!({"policy": "local", "key": "a", "cost": 0})).status, 429);
    assert!(node.metric("tollgate_decisions_total", "reported") >= 2.0);
}

#[test]
fn a_recorded_history_with_reports_is_judged_alike_by_the_reference() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record").display().to_string();
    for store in ["memory", &redis.url()] {
        let flags = ["--store", store, "--check-deadline", "5s", "--record", &file];
        let node = Node::with_catalog(CATALOG, &flags);
        for cost in [400, 900, 0, 1200] {
            report(&node, "both-key", cost);
            tokens(&node, "both-key", cost);
        }
        assert_eq!(node.stop(), Some(0));
        let recorded = std::fs::read_to_string(&file).unwrap();
        assert!(recorded.contains(r#""always":true"#), "{recorded}");
        tollgate::engine::replay(&recorded).unwrap();
        std::fs::remove_file(&file).unwrap();
    }
}

//! `GET /top`: the keys that are refused most and use most.

use serde_json::{Value, json};

use super::{TOKEN, as_bearer, call, node};
use crate::support::node::Node;

pub const CATALOG: &str = "
version: 1
apis: [{ id: shop, stages: [{ name: prod, throttle: { rate: 1/h, burst: 12 } }] }]
plans: [{ id: basic, throttle: { rate: 1/h, burst: 5 }, quota: { limit: 100, period: day } }]
keys:
  - { id: alice, value: the-value-of-alice, plans: [basic] }
  - { id: bob, value: the-value-of-bob, plans: [basic] }
policies:
  - { name: login, throttle: { rate: 1/h, burst: 2 } }
  - { name: ip, key_type: ip, throttle: { rate: 1/h, burst: 1 } }
";

pub fn top(node: &Node, query: &str) -> Value {
    call(node, "GET", &format!("/top?{query}"), json!(null))
}

/// The rows: limit, key, refused and used in the minute.
fn rows(node: &Node, query: &str) -> Vec<(String, String, u64, u64)> {
    let top = top(node, query);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |row: &Value| {
        let key = if row["keyId"].is_null() { &row["key"] } else { &row["keyId"] };
        let count = |measure: &str| row["minute"][measure].as_u64().unwrap();
        assert_eq!(row["minute"], row["hour"], "{row}");
        (text(&row["limit"]), text(key), count("refused"), count("used"))
    };
    top["item"].as_array().unwrap().iter().map(row).collect()
}

fn row(limit: &str, key: &str, refused: u64, used: u64) -> (String, String, u64, u64) {
    (limit.into(), key.into(), refused, used)
}

#[test]
fn the_key_that_is_refused_most_comes_first_with_what_it_used() {
    let node = node(Some(CATALOG), &[]);
    for _ in 0..9 {
        node.check(json!({"api_key": "the-value-of-alice"}));
    }
    node.check(json!({"api_key": "the-value-of-bob", "cost": 4}));
    node.check(json!({"api_key": "the-value-of-bob", "cost": 2}));
    node.check(json!({"api_key": "the-value-of-bob", "cost": 500}));
    for _ in 0..3 {
        node.check(json!({"policy": "login", "key": "carol@example.com"}));
        node.check(json!({"policy": "ip", "key": "2001:db8::7"}));
    }
    let expected = [
        row("basic/throttle", "alice", 4, 5),
        row("basic/throttle", "bob", 2, 4),
        row("policy:ip/throttle", "2001:db8::7", 2, 1),
        row("policy:login/throttle", "carol@example.com", 1, 2),
    ];
    assert_eq!(rows(&node, ""), expected);
    assert_eq!(rows(&node, "n=1&window=hour"), expected[..1]);
    let used = rows(&node, "by=used&limit=basic%2Fquota");
    assert_eq!(used, [row("basic/quota", "alice", 0, 5), row("basic/quota", "bob", 0, 4)]);
    let text = as_bearer(&node, "the-token-for-reading", "GET", "/top", "").body;
    assert!(text.contains("alice") && !text.contains("the-value-of"), "{text}");
    assert!(!node.get("/metrics").body.contains("carol"), "no text of a client is in metrics");
}

#[test]
fn a_limit_that_all_clients_share_names_the_client_that_it_refuses() {
    let node = node(Some(CATALOG), &[]);
    let check = |key: &str, cost: u64| {
        node.check(json!({"api_key": key, "api": "shop", "stage": "prod", "cost": cost})).status
    };
    let statuses = [("alice", 5), ("bob", 5), ("bob", 0)]
        .map(|(key, cost)| check(&format!("the-value-of-{key}"), cost));
    assert_eq!(statuses, [200; 3]);
    let body = json!({"policy": "login", "key": "x", "api": "shop", "stage": "prod", "cost": 2});
    assert_eq!([(); 2].map(|()| node.check(body.clone()).status), [200, 429]);
    let used = rows(&node, "by=used&limit=stage%3Ashop%2Fprod%2Fthrottle");
    let used: Vec<_> = used.iter().map(|(_, key, ..)| &**key).collect();
    assert_eq!(used, ["alice", "bob", "-"]);
}

#[test]
fn a_batch_and_reservations_are_counted_too() {
    let node = node(Some(CATALOG), &[]);
    let check = json!({"policy": "login", "key": "a"});
    let wrong = json!({"policy": "login"});
    let body = json!({"checks": [check, wrong, check, check]}).to_string();
    let batch = node.send("POST", "/check/batch", &[], &body);
    assert_eq!(batch.status, 200, "{batch:?}");
    let reserved = node.check(json!({"policy": "login", "key": "b", "cost": 2, "reservation": {}}));
    assert_eq!(reserved.status, 200);
    let expected =
        [row("policy:login/throttle", "a", 1, 2), row("policy:login/throttle", "b", 0, 2)];
    assert_eq!(rows(&node, "by=used"), expected);
}

#[test]
fn a_query_that_cannot_be_used_is_refused_and_zero_top_keys_counts_nothing() {
    let node = node(Some(CATALOG), &["--top-keys", "0"]);
    for (query, named) in [
        ("by=most", "refused or used"),
        ("window=day", "minute or hour"),
        ("n=0", "n: expected a whole number"),
        ("key=a", "not known here"),
    ] {
        let answer = as_bearer(&node, TOKEN, "GET", &format!("/top?{query}"), "");
        assert!(answer.status == 400 && answer.body.contains(named), "{query}: {answer:?}");
    }
    let answer = as_bearer(&node, TOKEN, "GET", "/top", "");
    assert!(answer.status == 404 && answer.body.contains("top_keys"), "{answer:?}");
}

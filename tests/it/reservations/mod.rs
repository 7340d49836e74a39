//! Reservations over HTTP: a check opens one, and it is settled, cancelled or extended once it is
//! known what was used.

mod changed_catalog;
mod faults;
mod invalid;
mod leased;
mod leased_streams;
mod lifecycle;
mod lost_store;
mod observed;
mod recorded;
mod refused_repeats;
mod slots;
mod streams;

use serde_json::{Value, json};

use crate::support::http::Response;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

/// Next to nothing drains while a test runs.
const CATALOG: &str = r#"
version: 1
models:
  gpt-5: { input: 1250000, cached_input: 125000, output: 10000000, max_output: 4096 }
  other: { max_output: 10 }
units:
  burndown: { input: 1, output: 5 }
plans:
  - id: pro
    throttle: { rate: 1/h, burst: 100 }
    limits:
      - { name: tpm, unit: total_tokens, throttle: { rate: 24/d, burst: 100000 } }
      - { name: tpd, unit: total_tokens, quota: { limit: 100000, period: month } }
  - id: small
    limits:
      - { name: tpm, unit: total_tokens, throttle: { rate: 24/d, burst: 1000 } }
      - { name: rpd, quota: { limit: 3, period: month } }
  - { id: money, limits: [ { name: spend, unit: cost_microusd, quota: { limit: 1000000, period: month } } ] }
keys:
  - { id: alice, value: alice-key, plans: [pro] }
  - { id: bob, value: bob-key, plans: [small] }
  - { id: carol, value: carol-key, plans: [small] }
  - { id: dora, value: dora-key, plans: [money] }
policies:
  - { name: open, throttle: { rate: 1/h, burst: 8 } }
  - { name: closed, throttle: { rate: 1/h, burst: 8 }, on_store_failure: closed }
  - { name: local, throttle: { rate: 1/h, burst: 8 }, on_store_failure: local }
"#;

/// Runs a test on a node with the memory store and on one with Redis.
fn on_both(test: impl Fn(&Node)) {
    test(&Node::with_catalog(CATALOG, &[]));
    let redis = RedisServer::start();
    test(&Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]));
}

#[expect(clippy::needless_pass_by_value, reason = "json! makes a value")]
fn post(node: &Node, path: &str, body: Value) -> Response {
    node.send("POST", path, &[], &body.to_string())
}

/// Reserves `tokens` of a key under an id.
fn reserve(node: &Node, key: &str, tokens: u64, id: &str) -> Response {
    let cost = json!({"total_tokens": tokens});
    node.check(json!({"api_key": key, "cost": cost, "reservation": {"id": id}}))
}

/// Opens a reservation, and returns its handle.
#[track_caller]
fn open(node: &Node, key: &str, tokens: u64) -> String {
    let cost = json!({"total_tokens": tokens});
    let answer = node.check(json!({"api_key": key, "cost": cost, "reservation": {}}));
    assert_eq!(answer.status, 200, "{answer:?}");
    handle(&answer)
}

#[track_caller]
fn handle(answer: &Response) -> String {
    let body = answer.json();
    body["reservation"]["handle"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// Settles a reservation with this many tokens in all.
fn settle(node: &Node, handle: &str, tokens: u64) -> Response {
    post(
        node,
        "/reservations/settle",
        json!({"handle": handle, "actual": {"total_tokens": tokens}}),
    )
}

fn cancel(node: &Node, handle: &str) -> Response {
    post(node, "/reservations/cancel", json!({"handle": handle}))
}

/// The remaining units of each limit of a key.
#[track_caller]
fn remaining(node: &Node, key: &str) -> Vec<i64> {
    let answer = node.check(json!({"api_key": key, "cost": 0}));
    left(&answer.json())
}

/// The remaining units of each limit in a response; debt is negative.
#[track_caller]
fn left(body: &Value) -> Vec<i64> {
    let limits = body["limits"].as_array().unwrap_or_else(|| panic!("{body}"));
    let number = |limit: &Value, member: &str| limit[member].as_i64().unwrap_or(0);
    limits.iter().map(|limit| number(limit, "remaining") - number(limit, "debt")).collect()
}

//! Webhooks: each threshold of a key's quota is delivered once and signed.

mod failing;
mod outbox;
mod signature;

use serde_json::json;

use crate::control::TOKEN;
use crate::support::eventually;
use crate::support::node::Node;
use crate::support::receiver::WebhookReceiver;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const CATALOG: &str = r"
version: 1
plans:
  - id: daily
    throttle: { rate: 100000/s, burst: 100000 }
    quota: { limit: 200, period: day }
    limits: [ { name: tokens, unit: total_tokens, quota: { limit: 1000, period: month } } ]
  - { id: tried, mode: shadow, quota: { limit: 10, period: day } }
keys:
  - { id: a, value: key-of-a, plans: [daily], customer_id: acme }
  - { id: b, value: key-of-b, plans: [daily] }
  - { id: t, value: key-of-t, plans: [tried] }
policies:
  - { name: p, quota: { limit: 10, period: day } }
";

fn node(url: &str, flags: &[&str]) -> Node {
    node_with(CATALOG, url, flags)
}

fn node_with(catalog: &str, url: &str, flags: &[&str]) -> Node {
    let environment = [
        ("TOLLGATE_WEBHOOK_URL", url),
        ("TOLLGATE_WEBHOOK_SECRET", SECRET),
        ("TOLLGATE_WEBHOOK_RETRY_AFTER", "1ms"),
        ("TOLLGATE_CHECK_DEADLINE", "10s"),
        ("TOLLGATE_DRAIN_DELAY", "0s"),
        ("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"),
        ("TOLLGATE_ADMIN_TOKEN", TOKEN),
    ];
    Node::launch(Some(catalog), flags, &environment)
}

/// Sends a check of this cost for a key; returns the status.
fn uses(node: &Node, key: &str, cost: u64) -> u16 {
    node.check(json!({"api_key": format!("key-of-{key}"), "cost": cost})).status
}

#[test]
fn reads_refusals_and_batches_reach_thresholds_and_shadow_limits_do_not() {
    let receiver = WebhookReceiver::start();
    let node = node(&receiver.url(), &[]);
    let batch = json!({"checks": [
        {"api_key": "key-of-t", "cost": 10},
        {"policy": "p", "key": "somebody", "cost": 10},
        {"api_key": "key-of-b", "cost": 170},
    ]});
    assert_eq!(node.send("POST", "/check/batch", &[], &batch.to_string()).status, 200);
    eventually("a batch reaches the threshold", || receiver.thresholds_of("b") == [80]);
    let authz = || node.send("GET", "/authz", &[("x-api-key", "key-of-b")], "");
    for _ in 0..10 {
        assert_eq!(authz().status, 200);
    }
    eventually("forward authentication reaches the threshold", || {
        receiver.thresholds_of("b") == [80, 90]
    });
    assert_eq!(uses(&node, "b", 21), 429);
    assert_eq!(uses(&node, "a", 159), 200);
    assert_eq!(uses(&node, "a", 0), 200);
    assert_eq!(uses(&node, "a", 1), 200);
    eventually("usage equal to the threshold reaches it", || receiver.thresholds_of("a") == [80]);
    assert_eq!(node.stop(), Some(0));
    assert_eq!(receiver.deliveries().len(), 3);
}

#[test]
fn a_report_reaches_thresholds_also_above_the_quota_and_to_a_refused_key() {
    let receiver = WebhookReceiver::start();
    let node = node(&receiver.url(), &[]);
    let report = |cost: u64| {
        let body = json!({"api_key": "key-of-a", "cost": cost, "after_the_fact": true});
        assert_eq!(node.check(body).status, 200);
    };
    report(170);
    eventually("it reaches the first threshold", || receiver.thresholds_of("a") == [80]);
    report(500);
    eventually("it reaches all thresholds", || receiver.thresholds_of("a") == [80, 90, 100]);
    assert_eq!(uses(&node, "a", 0), 429);
    report(1);
    assert_eq!(node.stop(), Some(0));
    assert_eq!(receiver.deliveries().len(), 3, "each once");
}

#[test]
fn a_reservation_reaches_thresholds_once_it_is_settled() {
    let receiver = WebhookReceiver::start();
    let node = node(&receiver.url(), &[]);
    let open = |tokens: u64| {
        let cost = json!({"total_tokens": tokens});
        let body = json!({"api_key": "key-of-a", "cost": cost, "reservation": {}});
        let answer = node.check(body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["reservation"]["handle"].clone()
    };
    let settle = |handle: &serde_json::Value, tokens: u64| {
        let body = json!({"handle": handle, "actual": {"total_tokens": tokens}});
        assert_eq!(node.send("POST", "/reservations/settle", &[], &body.to_string()).status, 200);
    };
    let first = open(1000);
    settle(&first, 100);
    let second = open(900);
    settle(&second, 700);
    eventually("what was used reaches the threshold", || receiver.thresholds_of("a") == [80]);
    assert_eq!(node.stop(), Some(0));
    assert_eq!(receiver.deliveries().len(), 1, "and no estimate does");
}

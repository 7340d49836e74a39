//! Corrections by operators: grants, refunds, resets, in any unit and on every node.

use serde_json::{Value, json};

use super::usage::{days, today};
use super::{TOKEN, as_bearer, call, node};
use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

/// Grants, refunds and a reset, in requests and in another unit.
fn corrections_hold(node: &Node, other: &Node) {
    let catalog = r"
version: 1
plans:
  - id: p
    throttle: { rate: 1/d, burst: 6 }
    quota: { limit: 4, period: day }
    limits: [ { name: tokens, unit: total_tokens, quota: { limit: 100, period: month } } ]
keys: [ { id: k, value: key-k, plans: [p] } ]
";
    for node in [node, other] {
        let before = node.metric("tollgate_catalog_reloads_total", "ok");
        std::fs::write(node.catalog_file(), catalog).unwrap();
        eventually("in use", || node.metric("tollgate_catalog_reloads_total", "ok") > before);
    }
    let check = |node: &Node, requests: u64, tokens: u64| {
        let cost = json!({"requests": requests, "total_tokens": tokens});
        node.check(json!({"api_key": "key-k", "cost": cost})).status
    };
    let patch = |operations: &[(&str, &str)]| {
        let operations: Vec<Value> = operations
            .iter()
            .map(|(path, value)| json!({"op": "add", "path": path, "value": value}))
            .collect();
        let body = json!({"patchOperations": operations});
        call(node, "PATCH", "/usageplans/p/keys/k/usage", body);
    };
    let used = |unit: &str| days(node, "p", "k", unit, today(0))[0];
    assert_eq!(check(node, 4, 60), 200);
    assert_eq!((check(node, 1, 0), check(other, 1, 0)), (429, 429));
    patch(&[("/grant", "2"), ("/grant/total_tokens", "5")]);
    assert_eq!((used("requests"), used("total_tokens")), ([4, 2], [60, 45]));
    // The refusal that a node remembers is short.
    eventually("the grant is known", || check(other, 1, 45) == 200);
    assert_eq!((used("requests"), used("total_tokens")), ([5, 1], [105, 0]));
    patch(&[("/refund/total_tokens", "10"), ("/refund", "3")]);
    assert_eq!((used("requests"), used("total_tokens")), ([2, 4], [95, 10]));
    // Of the throttle's six one is left, which a reset changes.
    assert_eq!(check(node, 2, 0), 429);
    patch(&[("/reset", "")]);
    assert_eq!((used("requests"), used("total_tokens")), ([2, 4], [95, 100]));
    eventually("the reset is known", || check(node, 4, 100) == 200);
    assert_eq!((used("requests"), used("total_tokens")), ([6, 0], [195, 0]));
    // Also where more was granted than was used, so that the count is below nothing.
    patch(&[("/grant/total_tokens", "500"), ("/refund/total_tokens", "4")]);
    assert_eq!(used("total_tokens"), [191, 504]);
    // All or none: the second is wrong.
    let wrong = json!({"patchOperations": [
        {"op": "add", "path": "/grant", "value": "1"}, {"op": "add", "path": "/grant/apples", "value": "1"},
    ]});
    let at = "/usageplans/p/keys/k/usage";
    assert_eq!(as_bearer(node, TOKEN, "PATCH", at, &wrong.to_string()).status, 400);
    assert_eq!(used("requests"), [6, 0]);
    let log = node.log();
    let audited = |line: &str| line.contains("PATCH") && line.contains("/keys/k/usage");
    assert!(log.lines().any(audited), "{log}");
}

#[test]
fn grants_refunds_and_resets_hold_on_every_node() {
    let redis = RedisServer::start();
    let url = redis.url();
    let [one, other] =
        [0; 2].map(|_| node(Some("version: 1"), &["--store", &url, "--check-deadline", "10s"]));
    corrections_hold(&one, &other);
}

#[test]
fn grants_refunds_and_resets_hold_in_the_embedded_mode() {
    let node = node(Some("version: 1"), &[]);
    corrections_hold(&node, &node);
}

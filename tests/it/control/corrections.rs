//! Corrections of usage: grants, refunds and resets, in any unit.

use serde_json::{Value, json};

use super::overrides::{key_on, sizes_and_rest};
use super::usage::{days, today};
use super::{TOKEN, as_bearer, call, node};
use crate::support::eventually;
use crate::support::node::Node;

/// Makes grants, refunds and a reset, in requests and in another unit.
pub fn corrections_take_effect(node: &Node, other: &Node) {
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
    // A cached refusal lasts only a short time.
    eventually("the grant is in effect", || check(other, 1, 45) == 200);
    assert_eq!((used("requests"), used("total_tokens")), ([5, 1], [105, 0]));
    patch(&[("/refund/total_tokens", "10"), ("/refund", "3")]);
    assert_eq!((used("requests"), used("total_tokens")), ([2, 4], [95, 10]));
    // One of the throttle's six is left; a reset refills it.
    assert_eq!(check(node, 2, 0), 429);
    patch(&[("/reset", "")]);
    assert_eq!((used("requests"), used("total_tokens")), ([2, 4], [95, 100]));
    eventually("the reset is in effect", || check(node, 4, 100) == 200);
    assert_eq!((used("requests"), used("total_tokens")), ([6, 0], [195, 0]));
    // More may be granted than was used: the count is then below 0.
    patch(&[("/grant/total_tokens", "500"), ("/refund/total_tokens", "4")]);
    assert_eq!(used("total_tokens"), [191, 504]);
    // All or none: the second is invalid.
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
fn a_correction_beyond_what_is_counted_exactly_is_refused() {
    let catalog = r"
version: 1
plans:
  - { id: p, quota: { limit: 4, period: day } }
  - { id: q, quota: { limit: 9007199254740991, period: day } }
keys: [ { id: k, value: key-k, plans: [p] }, { id: l, value: key-l, plans: [q] } ]
";
    let node = node(Some(catalog), &[]);
    let patch = |path: &str, operations: &[(&str, &str)]| {
        let operation =
            |(path, value): &(&str, &str)| json!({"op": "add", "path": path, "value": value});
        let operations: Vec<Value> = operations.iter().map(operation).collect();
        let body = json!({"patchOperations": operations}).to_string();
        as_bearer(&node, TOKEN, "PATCH", path, &body)
    };
    let (k, l) = ("/usageplans/p/keys/k/usage", "/usageplans/q/keys/l/usage");
    for (path, operations) in [
        (l, &[("/remaining", "0")][..]),
        (k, &[("/remaining", "4503599627370501")]),
        (k, &[("/grant", "4503599627370497")]),
        (k, &[("/grant", "4503599627370495"), ("/grant", "2")]),
    ] {
        let answer = patch(path, operations);
        assert!(
            answer.status == 400 && answer.body.contains("at most 4503599627370496 requests"),
            "{answer:?}"
        );
    }
    assert_eq!(days(&node, "p", "k", "requests", today(0)), [[0, 4]]);
    assert_eq!(patch(k, &[("/grant", "4503599627370496")]).status, 200);
    assert_eq!(days(&node, "p", "k", "requests", today(0)), [[0, 4_503_599_627_370_500]]);
    assert_eq!(patch(k, &[("/grant", "1")]).status, 400);
    assert_eq!(patch(k, &[("/reset", ""), ("/grant", "1")]).status, 200);
    assert_eq!(days(&node, "p", "k", "requests", today(0)), [[0, 5]]);
}

#[test]
fn grants_refunds_and_resets_take_effect_in_the_embedded_mode() {
    let node = node(Some("version: 1"), &[]);
    corrections_take_effect(&node, &node);
}

/// Corrects a key with overrides, beside one without.
pub fn corrections_apply_to_the_keys_own_quota(node: &Node, other: &Node) {
    let sizes =
        json!({"p": {"quota": {"limit": 7}, "limits": {"tokens": {"quota": {"limit": 150}}}}});
    let (id, value) = key_on(node, "p", &sizes);
    let correct = |key: &str, operations: &[(&str, &str)]| {
        let operation =
            |(path, value): &(&str, &str)| json!({"op": "add", "path": path, "value": value});
        let operations: Vec<Value> = operations.iter().map(operation).collect();
        let at = format!("/usageplans/p/keys/{key}/usage");
        call(node, "PATCH", &at, json!({"patchOperations": operations}))["values"][key][0].clone()
    };
    // Units used and left, in usage on either node and in checks.
    let stand = |requests: [i64; 2], tokens: [i64; 2]| {
        for node in [node, other] {
            let used =
                ["requests", "total_tokens"].map(|unit| days(node, "p", &id, unit, today(0))[0]);
            assert_eq!(used, [requests, tokens]);
            let left = [(7, requests[1].cast_unsigned()), (150, tokens[1].cast_unsigned())];
            eventually("checks return the same", || sizes_and_rest(node, &value) == left);
        }
    };
    let check = |key: &str, requests: u64, tokens: u64| {
        let cost = json!({"requests": requests, "total_tokens": tokens});
        node.check(json!({"api_key": key, "cost": cost})).status
    };
    eventually("the other node knows the key", || sizes_and_rest(other, &value).len() == 2);
    assert_eq!((check(&value, 7, 140), check("key-plain", 4, 60)), (200, 200));
    assert_eq!((check(&value, 1, 0), check("key-plain", 1, 0)), (429, 429));
    stand([7, 0], [140, 10]);
    assert_eq!(correct(&id, &[("/grant/total_tokens", "5"), ("/grant", "2")]), json!([7, 2]));
    stand([7, 2], [140, 15]);
    eventually("the grant is in effect", || check(&value, 2, 15) == 200);
    assert_eq!(check(&value, 1, 0), 429);
    // More is left then than the plan's quota.
    assert_eq!(correct(&id, &[("/refund", "5"), ("/refund/total_tokens", "120")]), json!([4, 5]));
    stand([4, 5], [35, 120]);
    eventually("the refund is in effect", || check(&value, 5, 0) == 200);
    assert_eq!(correct(&id, &[("/reset", "")]), json!([9, 7]));
    stand([9, 7], [35, 150]);
    assert_eq!(correct("plain", &[("/grant", "1")]), json!([4, 1]));
    assert_eq!(sizes_and_rest(node, "key-plain"), [(4, 1), (100, 40)]);
}

pub const QUOTAS: &str = r"
version: 1
plans:
  - id: p
    quota: { limit: 4, period: day }
    limits: [ { name: tokens, unit: total_tokens, quota: { limit: 100, period: month } } ]
keys: [ { id: plain, value: key-plain, plans: [p] } ]
";

#[test]
fn corrections_apply_to_the_keys_own_quota_in_the_embedded_mode() {
    let node = node(Some(QUOTAS), &[]);
    corrections_apply_to_the_keys_own_quota(&node, &node);
}

//! `tollgate policies` against a running node, which unblocks an address.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{TOKEN, run, shown, table};
use crate::support::eventually;
use crate::support::node::Node;

const POLICIES: &str = "
version: 1
policies:
  - name: login
    key_type: ip
    throttle: { rate: 1/min, burst: 2 }
    quota: { limit: 100, period: day }
  - { name: account, throttle: { rate: 1/min, burst: 2 } }
  - { name: streams, limits: [{ name: open, concurrency: { limit: 3 } }] }
";

pub fn with_policies(store: &[&str]) -> Node {
    let access = [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", TOKEN)];
    Node::launch(Some(POLICIES), store, &access)
}

/// A key of the policy `login` is refused, seen as refused, and admitted after a reset: in every
/// spelling, and for no other key.
pub fn unblocks_an_address(node: &Node) {
    let passes = |key: &str| node.passes("login", key, 1);
    for address in ["203.0.113.7", "203.0.113.8"] {
        assert!(passes(address) && passes(address));
    }
    assert!(!passes("203.0.113.8"), "and it is in the node's memory from now on");
    let usage = shown(node, "policies usage login [::ffff:203.0.113.7]:443");
    assert_eq!(usage["key"], "203.0.113.7");
    let of = |name: &str| usage["limits"].as_array().unwrap().iter().find(|it| it["name"] == *name);
    let throttle = of("policy:login/throttle").unwrap();
    let wait = throttle["retryAfterMs"].as_u64().unwrap();
    assert!((50_000..=60_000).contains(&wait) && throttle["remaining"] == 0, "{usage}");
    let quota = of("policy:login/quota").unwrap();
    assert_eq!((&quota["remaining"], &quota["retryAfterMs"]), (&json!(98), &json!(0)));
    let reset = shown(node, "policies reset login ip:203.0.113.7");
    for limit in reset["limits"].as_array().unwrap() {
        assert_eq!(limit["remaining"], limit["limit"], "{reset}");
    }
    assert!(passes("203.0.113.7") && passes("IP:203.0.113.7:80") && !passes("203.0.113.7"));
    assert!(!passes("203.0.113.8"), "another address is not reset");
}

#[test]
fn a_policys_key_is_unblocked_and_the_audit_log_names_it() {
    let node = with_policies(&[]);
    unblocks_an_address(&node);
    let entry = &shown(&node, "audit --path /policies")[0];
    assert_eq!(entry["changed"], json!(["/policies/login/keys/203.0.113.7"]), "{entry}");
    assert_eq!((&entry["path"], &entry["status"]), (&json!("/policies/login/reset"), &json!(201)));
}

/// Slots that reservations hold are seen and freed.
pub fn frees_slots(node: &Node) {
    let body = json!({"policy": "streams", "key": "alice", "reservation": {"ttl_ms": 60_000}});
    assert_eq!(node.check(body).status, 200);
    let left = |words: &str| shown(node, words)["limits"][0]["remaining"].clone();
    assert_eq!(left("policies usage streams alice"), 2);
    assert_eq!(left("policies reset streams alice"), 3);
}

#[test]
fn slots_of_a_policys_key_are_seen_and_freed() {
    frees_slots(&with_policies(&[]));
}

#[test]
fn a_refusal_that_the_node_remembers_ends_within_ten_seconds_after_a_reset() {
    let node = with_policies(&[]);
    while node.passes("account", "alice", 1) {}
    table(&node, "policies reset account alice");
    let since = Instant::now();
    eventually("the refusal has ended", || node.passes("account", "alice", 1));
    assert!(since.elapsed() < Duration::from_secs(12), "refused for {:?}", since.elapsed());
}

#[test]
fn policies_are_listed_and_an_unusable_key_or_name_is_an_error() {
    let node = with_policies(&[]);
    let listed = table(&node, "policies list");
    let rows: Vec<&str> = listed.lines().skip(1).collect();
    assert!(rows[0].starts_with("account  text"), "{listed}");
    assert!(rows[1].starts_with("login") && rows[1].contains("ip"), "{listed}");
    assert!(rows[1].contains("policy:login/quota 100 of requests"), "{listed}");
    for (words, reason) in [
        ("policies usage login nobody", "400 Bad Request: Invalid key: this policy counts IP"),
        ("policies reset login nobody", "400 Bad Request: Invalid key: this policy counts IP"),
        ("policies usage nowhere 1", "404 Not Found: there is no policy nowhere"),
        ("policies usage account ", "400 Bad Request: Invalid key: write 1 to 1024 bytes"),
    ] {
        let (code, out, stderr) = run(&node, words);
        assert!(code == Some(2) && out.is_empty() && stderr.contains(reason), "{words}: {stderr}");
    }
    assert_eq!(shown(&node, "audit"), json!([]), "what is refused is not in the audit log");
}

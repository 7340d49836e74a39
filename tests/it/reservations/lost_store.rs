//! Reservations while Redis is lost: decided by the plan's failure policy.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::json;

use super::{CATALOG, handle, post};
use crate::support::eventually;
use crate::support::http::Response;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

fn node(redis: &RedisServer) -> Node {
    let flags = ["--store", &redis.url(), "--check-deadline", "100ms", "--min-nodes", "2"];
    Node::with_catalog(CATALOG, &flags)
}

fn reserve(node: &Node, policy: &str, cost: u64, id: &str) -> Response {
    node.check(json!({"policy": policy, "key": "a", "cost": cost, "reservation": {"id": id}}))
}

fn settle(node: &Node, handle: &str, requests: u64) -> Response {
    let body = json!({"handle": handle, "actual": {"requests": requests}});
    post(node, "/reservations/settle", body)
}

#[test]
fn the_failure_policy_decides_and_a_settlement_is_repeated_later() {
    let mut redis = RedisServer::start();
    let (one, other) = (node(&redis), node(&redis));
    let before = handle(&reserve(&one, "closed", 4, "a"));
    redis.kill();
    eventually("both nodes notice", || {
        [&one, &other].iter().all(|node| {
            node.check(json!({"policy": "open", "key": "b"}));
            node.get("/readyz").body.contains("degraded")
        })
    });
    let lost = settle(&one, &before, 1);
    assert_eq!((lost.status, lost.header("content-type")), (503, Some("application/problem+json")));
    assert_eq!(reserve(&one, "closed", 1, "b").status, 503);
    let open = reserve(&one, "open", 1, "c");
    assert_eq!(open.status, 200);
    assert!(open.json()["reservation"].is_null() && open.body.contains(r#""reservation":null"#));
    // Half of 8, because there are at least two nodes.
    let local = reserve(&one, "local", 3, "d");
    assert_eq!((local.status, local.json()["decided_by"].as_str()), (200, Some("fallback")));
    let again = reserve(&one, "local", 3, "d").json();
    assert_eq!(again["reservation"]["handle"], local.json()["reservation"]["handle"]);
    assert_eq!(again["reservation"]["replayed"], true);
    assert_eq!(reserve(&one, "local", 2, "d").status, 409);
    assert_eq!(reserve(&one, "local", 3, "e").status, 429);
    assert_eq!(reserve(&one, "local", 5, "f").status, 503, "a cost above the share");
    let local = handle(&local);
    assert_eq!(settle(&other, &local, 0).status, 404, "another node does not know it");
    assert_eq!(settle(&one, &local, 0).json()["charged"]["requests"], 0);
    assert_eq!(settle(&one, &local, 0).status, 404);
    let unsettled = reserve(&one, "local", 3, "g");
    assert_eq!(unsettled.status, 200, "the share has its room back");
    redis.restart();
    eventually("Redis is back", || one.get("/readyz").body.contains("ok"));
    assert_eq!(settle(&one, &handle(&unsettled), 0).status, 404, "it ended with the outage");
}

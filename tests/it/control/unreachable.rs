//! Checks of declared keys while Redis is unreachable.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::json;

use super::{alongside::CATALOG, node, plan_and_key};
use crate::support::eventually;
use crate::support::redis::RedisServer;

#[test]
fn a_key_that_cannot_be_looked_up_is_503_and_cached_keys_are_still_accepted() {
    let redis = RedisServer::start();
    let node = node(None, &["--store", &redis.url()]);
    let (_, value, _) = plan_and_key(&node, 1000);
    assert_eq!(node.check(json!({"api_key": value})).status, 200);
    drop(redis);
    assert_eq!(node.check(json!({"api_key": "nobody-has-ever-seen-this"})).status, 503);
    // The plan's failure policy is open, and the key is cached.
    eventually("the node decides without the store", || {
        node.check(json!({"api_key": value})).status == 200
    });
}

#[test]
fn the_strictest_failure_policy_of_a_keys_plans_applies_without_the_store() {
    let redis = RedisServer::start();
    let node = node(Some(CATALOG), &["--store", &redis.url(), "--check-deadline", "10s"]);
    drop(redis);
    let status = |value: &str| {
        node.check(
            json!({"api_key": value, "api": "a", "stage": "prod", "method": "GET", "path": "/x"}),
        )
        .status
    };
    let seen = ["key-strict-last", "key-strict-first", "key-open"].map(status);
    assert_eq!(seen, [503, 503, 200]);
}

//! Permissions of the documented Redis user.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::json;

use super::{call, node, plan_and_key};
use crate::support::redis::RedisServer;
use crate::support::repository;

#[test]
fn the_documented_redis_user_has_exactly_the_permissions_that_are_needed() {
    let guide = std::fs::read_to_string(repository("docs/production.md")).unwrap();
    let rules = guide.lines().find_map(|line| line.strip_prefix("ACL SETUSER tollgate ")).unwrap();
    let redis = RedisServer::start();
    let mut create = vec!["ACL", "SETUSER", "tollgate"];
    create.extend(rules.split(' '));
    redis.command(&create);
    let url = redis.url().replace("redis://", "redis://tollgate:PASSWORD@");
    let node = node(None, &["--store", &url]);
    let (id, value, plan) = plan_and_key(&node, 3);
    assert_eq!(node.check(json!({"api_key": value})).status, 200);
    assert_eq!(call(&node, "GET", "/apikeys", json!(null))["item"][0]["id"], json!(id));
    call(&node, "DELETE", &format!("/usageplans/{plan}"), json!(null));
    call(&node, "DELETE", &format!("/apikeys/{id}"), json!(null));
    assert_eq!(node.check(json!({"api_key": value})).status, 403);
    assert!(node.log().contains("its appendonly is no"), "it may see what to warn of");
    let denied = redis.command(&["ACL", "LOG"]);
    assert_eq!(denied, redis::Value::Array(Vec::new()), "nothing was tried in vain");
}

//! Keys that clients make up, in Redis: its memory, and the number of its keys.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::{Value, json};

use super::{CATALOG, batch, decide, fill, holds_its_limits, made_up};
use crate::support::eventually;
use crate::support::http;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

#[test]
fn a_nearly_full_redis_refuses_new_keys_and_lifts_no_limit() {
    let redis = RedisServer::start();
    redis.command(&["SET", "ballast", &"x".repeat(32 << 20)]);
    let flags = ["--store", &redis.url(), "--check-deadline", "5s"];
    let node =
        Node::launch(Some(CATALOG), &flags, &[("TOLLGATE_ADMIN_TOKEN", "a-token-of-this-test")]);
    fill(&node, 100);
    let info = redis.command_text(&["INFO", "memory"]);
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let used: u64 = used.parse().unwrap();
    redis.command(&["CONFIG", "SET", "maxmemory", &(used * 100 / 94).to_string()]);
    eventually("the node knows", || node.metric("tollgate_redis_memory_used_ratio", "") >= 0.9);
    holds_its_limits(&node, "redis");
    let headers =
        [("authorization", "Bearer a-token-of-this-test"), ("content-type", "application/json")];
    let made = http::send(node.admin(), "POST", "/apikeys", &headers, r#"{"name":"a"}"#);
    assert_eq!(made.status, 201, "the admin API has the rest: {made:?}");
    assert!(node.log().contains("the memory of Redis is nearly full"));
    assert_eq!(node.metric("tollgate_breaker_open", ""), 0.0);
    redis.command(&["CONFIG", "SET", "maxmemory", &(used * 2).to_string()]);
    eventually("new keys are counted again", || {
        decide(&node, made_up("closed", 20_000)).1 == "redis"
    });
}

#[test]
fn made_up_paths_share_a_bounded_number_of_counters() {
    const PATHS: usize = 5_000;
    let redis = RedisServer::start();
    let node = Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]);
    let check = |number: usize| json!({"api_key": "alice-key", "api": "api", "stage": "prod", "method": "GET", "path": format!("/made-up/{number}"), "cost": 3});
    let checks: Vec<Value> = (0..PATHS).map(check).collect();
    let answers = checks.chunks(1_000).flat_map(|checks| batch(&node, checks));
    let allowed = answers.filter(|answer| answer["allowed"] == true).count();
    assert!((900..=1024).contains(&allowed), "{allowed} budgets");
    let keys: usize = redis::from_redis_value(redis.command(&["DBSIZE"])).unwrap();
    assert!(keys <= 1024 + 4, "{keys} keys");
}

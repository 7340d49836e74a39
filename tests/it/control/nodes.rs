//! Several nodes on one Redis: each change has its effect on every node, and none is lost.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::{Value, json};

use super::{
    TOKEN, alongside, as_bearer, call, corrections, file_resources, import, key_policies,
    keyless_methods, node, overrides, plan_and_key, rotation,
};
use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

#[test]
fn every_change_reaches_every_node() {
    let redis = RedisServer::start();
    let url = redis.url();
    // The second node has no admin API: it reads the declared resources from Redis.
    let one = node(None, &["--store", &url]);
    let other = Node::start(&["--store", &url]);
    let (id, value, plan) = plan_and_key(&one, 1_000_000);
    let status = || other.check(json!({"api_key": value})).status;
    eventually("the other node accepts the key", || status() == 200);
    for (enabled, expected) in [("false", 403), ("true", 200)] {
        let patch = json!({"op": "replace", "path": "/enabled", "value": enabled});
        call(&one, "PATCH", &format!("/apikeys/{id}"), json!({"patchOperations": [patch]}));
        assert_eq!(one.check(json!({"api_key": value})).status, expected);
        eventually("the other node follows the change", || status() == expected);
    }
    call(&one, "DELETE", &format!("/usageplans/{plan}/keys/{id}"), json!(null));
    eventually("the other node refuses a key without a plan", || status() == 403);
    call(&one, "DELETE", &format!("/apikeys/{id}"), json!(null));
    eventually("the other node refuses a deleted key", || {
        other.check(json!({"api_key": value})).body.contains("unknown")
    });
}

#[test]
fn concurrent_changes_are_all_kept() {
    let redis = RedisServer::start();
    let url = redis.url();
    let nodes = [node(None, &["--store", &url]), node(None, &["--store", &url])];
    std::thread::scope(|scope| {
        for (place, node) in nodes.iter().enumerate() {
            for number in 0..2 {
                scope.spawn(move || {
                    for round in 0..5 {
                        let name = format!("plan-{place}-{number}-{round}");
                        let body = json!({"name": name}).to_string();
                        assert_eq!(
                            as_bearer(node, TOKEN, "POST", "/usageplans", &body).status,
                            201
                        );
                    }
                });
            }
        }
    });
    let plans = call(&nodes[0], "GET", "/usageplans?limit=100", json!(null));
    assert_eq!(plans["item"].as_array().unwrap().len(), 20);
}

#[test]
fn plans_alongside_each_other_are_judged_in_one_check_on_redis() {
    let redis = RedisServer::start();
    let flags = ["--store", &redis.url(), "--check-deadline", "10s"];
    alongside::plans_are_judged_in_one_check(&node(Some(alongside::CATALOG), &flags));
}

#[test]
fn grants_refunds_and_resets_take_effect_on_every_node() {
    let redis = RedisServer::start();
    let url = redis.url();
    let [one, other] =
        [0; 2].map(|_| node(Some("version: 1"), &["--store", &url, "--check-deadline", "10s"]));
    corrections::corrections_take_effect(&one, &other);
}

#[test]
fn corrections_apply_to_the_keys_own_quota_on_every_node() {
    let redis = RedisServer::start();
    let url = redis.url();
    let [one, other] = [0; 2]
        .map(|_| node(Some(corrections::QUOTAS), &["--store", &url, "--check-deadline", "10s"]));
    corrections::corrections_apply_to_the_keys_own_quota(&one, &other);
}

#[test]
fn the_files_resources_are_listed_among_the_apis_on_redis() {
    let redis = RedisServer::start();
    file_resources::both_are_shown(&node(
        Some(file_resources::CATALOG),
        &["--store", &redis.url(), "--check-deadline", "10s"],
    ));
}

#[test]
fn concurrent_imports_of_one_file_create_each_key_once() {
    let redis = RedisServer::start();
    let url = redis.url();
    let [one, other] = [0; 2].map(|_| node(None, &["--store", &url, "--check-deadline", "5s"]));
    import::each_key_is_created_once([&one, &other]);
}

#[test]
fn overrides_are_in_effect_on_every_node() {
    let redis = RedisServer::start();
    let url = redis.url();
    let [one, other] = [0; 2]
        .map(|_| node(Some(overrides::CATALOG), &["--store", &url, "--check-deadline", "10s"]));
    overrides::overrides_are_in_effect(&one, &other);
    // A node validates an override by a plan that another node has just created.
    for burst in 2..12 {
        let plan = json!({"name": "new", "throttle": {"rateLimit": 1, "burstLimit": burst}});
        let plan = call(&one, "POST", "/usageplans", plan)["id"].as_str().unwrap().to_owned();
        let sizes = json!({&*plan: {"throttle": {"burstLimit": 1}}});
        call(&other, "POST", "/apikeys", json!({"overrides": sizes}));
    }
}

#[test]
fn methods_without_a_need_for_a_key_pass_without_one_on_redis() {
    let redis = RedisServer::start();
    let flags = ["--store", &redis.url(), "--check-deadline", "10s"];
    keyless_methods::methods_need_keys_as_declared(&node(None, &flags));
}

#[test]
fn a_lease_ends_when_the_key_gets_an_override() {
    let redis = RedisServer::start();
    let url = redis.url();
    let plan = "version: 1\nplans: [{ id: p, consistency: leased, throttle: { rate: 2000/s, burst: 2000 } }]";
    let nodes = [0; 2].map(|_| node(Some(plan), &["--store", &url, "--check-deadline", "10s"]));
    let (id, value) = overrides::key_on(&nodes[0], "p", &json!({}));
    let check = |node: &Node| node.check(json!({"api_key": value}));
    for node in &nodes {
        eventually("a lease is spent", || {
            let answer = check(node);
            answer.status == 200 && answer.json()["decided_by"] == "lease"
        });
    }
    // The key has already used more than its new size.
    let less = [
        ("replace", "/overrides/p/throttle/rateLimit", "0.001"),
        ("replace", "/overrides/p/throttle/burstLimit", "1"),
    ];
    eventually("a lease is charged", || check(&nodes[0]).json()["limits"][0]["remaining"] != 2000);
    assert_eq!(overrides::patch(&nodes[0], &id, &less).status, 200);
    let admitted = (0..50).filter(|_| check(&nodes[0]).status == 200).count();
    assert!(admitted <= 1, "{admitted}");
    eventually("the other node has the sizes", || check(&nodes[1]).status == 429);
    assert!((0..50).all(|_| check(&nodes[1]).status == 429));
}

#[test]
fn a_rotated_key_has_two_values_for_the_overlap_and_then_one_on_every_node() {
    let redis = RedisServer::start();
    let url = redis.url();
    let (one, other) = (node(None, &["--store", &url]), Node::start(&["--store", &url]));
    let (id, first, _) = plan_and_key(&one, 1_000_000);
    let status = |node: &Node, value: &str| node.check(json!({"api_key": value})).status;
    eventually("the other node accepts the key", || status(&other, &first) == 200);
    let second = rotation::rotate(&one, &id, 3600);
    eventually("both values are the same key everywhere", || status(&other, &second) == 200);
    let left = |value: &str| {
        one.check(json!({"api_key": value})).json()["limits"][0]["remaining"].as_u64().unwrap()
    };
    assert_eq!(left(&first), left(&second) + 1, "and count together");
    assert_eq!(status(&other, &first), 200);
    // Of two replaced values only the later is accepted, until its overlap ends.
    let third = rotation::rotate(&one, &id, 2);
    assert_eq!([&first, &second, &third].map(|value| status(&one, value)), [403, 200, 200]);
    eventually("the first is refused everywhere", || status(&other, &first) == 403);
    for node in [&one, &other] {
        eventually("the overlap ends", || status(node, &second) == 403);
        assert_eq!(status(node, &third), 200);
    }
    let fourth = rotation::rotate(&one, &id, 0);
    assert_eq!([&third, &fourth].map(|value| status(&one, value)), [403, 200]);
    eventually("without an overlap the old one ends at once", || status(&other, &third) == 403);
    let fifth = rotation::rotate(&one, &id, 3600);
    call(&one, "DELETE", &format!("/apikeys/{id}"), json!(null));
    for value in [&fourth, &fifth] {
        assert_eq!(status(&one, value), 403);
        eventually("a deleted key has no value", || status(&other, value) == 403);
    }
    let held = format!("{:?}", redis.command(&["HKEYS", "tg:{registry}"]));
    assert!(!held.contains("digest/"), "{held}");
}

#[test]
fn a_keys_policies_are_in_effect_on_every_node() {
    let redis = RedisServer::start();
    let url = redis.url();
    let nodes = [0, 1]
        .map(|_| node(Some(key_policies::CATALOG), &["--store", &url, "--check-deadline", "5s"]));
    let policies = json!({"team": "red", "org": "acme"});
    let (id, value) = key_policies::key_with(&nodes[0], &policies);
    let shown =
        || call(&nodes[1], "GET", &format!("/apikeys/{id}"), Value::Null)["policies"].clone();
    let judge = |expected: &[&str]| {
        assert_eq!(key_policies::judged(&nodes[0], &value), expected);
        eventually("the other node follows", || {
            key_policies::judged(&nodes[1], &value) == expected
        });
    };
    assert_eq!(shown(), policies);
    judge(&["p/throttle", "policy:org/quota", "policy:team/throttle"]);
    assert_eq!(overrides::patch(&nodes[0], &id, &[("remove", "/policies/org", "")]).status, 200);
    judge(&["p/throttle", "policy:team/throttle"]);
    assert_eq!(nodes[0].check(json!({"api_key": value, "cost": 3})).status, 200);
    assert_eq!(nodes[1].check(json!({"api_key": value})).status, 429);
    assert_eq!(
        overrides::patch(&nodes[0], &id, &[("replace", "/policies/team", "blue")]).status,
        200
    );
    eventually("another team has its own", || {
        nodes[1].check(json!({"api_key": value})).status == 200
    });
    let whole = [("replace", "/policies", r#"{"org":"umbrella"}"#)];
    assert_eq!(
        overrides::patch(&nodes[0], &id, &whole).json()["policies"],
        json!({"org": "umbrella"})
    );
    judge(&["p/throttle", "policy:org/quota"]);
    assert_eq!(overrides::patch(&nodes[0], &id, &[("remove", "/policies", "")]).status, 200);
    judge(&["p/throttle"]);
    assert_eq!(shown(), Value::Null);
}

//! Values of API keys: stored only under encryption, returned only to clients that may write.
//! Needs programs besides Rust, so `make fast` skips it.

use std::process::Command;

use serde_json::json;

use super::{ACCESS, TOKEN, as_bearer, call, plan_and_key};
use crate::support::node::Node;
use crate::support::redis::RedisServer;

const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";

fn node(redis: &RedisServer, keys: &str) -> Node {
    let mut environment = ACCESS.to_vec();
    environment.push(("TOLLGATE_KEY_ENCRYPTION_KEY", keys));
    Node::launch(None, &["--store", &redis.url()], &environment)
}

fn value_of(node: &Node, id: &str) -> serde_json::Value {
    call(node, "GET", &format!("/apikeys/{id}?includeValue=true"), json!(null))["value"].clone()
}

#[test]
fn a_keys_value_is_returned_once_and_stored_nowhere() {
    let redis = RedisServer::start();
    let node = super::node(None, &["--store", &redis.url()]);
    let (id, value, plan) = plan_and_key(&node, 3);
    assert_eq!(node.check(json!({"api_key": value})).status, 200);
    for path in [
        "/apikeys?includeValues=true".to_owned(),
        format!("/apikeys/{id}?includeValue=true"),
        format!("/usageplans/{plan}/keys"),
    ] {
        let body = as_bearer(&node, TOKEN, "GET", &path, "").body;
        assert!(body.contains(&id) && !body.contains(&value), "{body}");
        assert!(!body.contains("sha256"), "the digest is not returned: {body}");
    }
    let held = format!("{:?}", redis.command(&["HGETALL", "tg:{registry}"]));
    assert!(held.contains(&id) && !held.contains(&value), "{held}");
    let log = node.log();
    assert!(!log.contains(&value));
    let audited = |line: &str| {
        ["who=\"admin_token\"", "POST", "path=\"/apikeys\"", "status=201"]
            .iter()
            .all(|part| line.contains(part))
    };
    assert!(log.lines().any(audited), "{log}");
    assert!(!node.get("/metrics").body.contains(&value));
}

#[test]
fn with_an_encryption_key_values_are_returned_again_and_never_stored_in_clear_text() {
    let redis = RedisServer::start();
    let node = node(&redis, OLD);
    let made = call(&node, "POST", "/apikeys", json!({"name": "k", "enabled": true}));
    let (id, value) = (made["id"].as_str().unwrap(), made["value"].as_str().unwrap());
    assert_eq!(value_of(&node, id), value);
    let listed = call(&node, "GET", "/apikeys?includeValues=true", json!(null));
    assert_eq!(listed["item"][0]["value"], value);
    for path in
        ["/apikeys", &format!("/apikeys/{id}"), &format!("/apikeys/{id}?includeValue=FALSE")]
    {
        let body = as_bearer(&node, TOKEN, "GET", path, "").body;
        assert!(!body.contains(value) && !body.contains("sealed"), "{body}");
    }
    for path in ["/apikeys?includeValues=true", &format!("/apikeys/{id}?%69ncludeValue=true")] {
        let response = as_bearer(&node, "the-token-for-reading", "GET", path, "");
        assert_eq!(response.status, 403, "{response:?}");
    }
    let plan = call(&node, "POST", "/usageplans", json!({"name": "p"}))["id"].clone();
    let keys = format!("/usageplans/{}/keys", plan.as_str().unwrap());
    let added = call(&node, "POST", &keys, json!({"keyId": id, "keyType": "API_KEY"}));
    assert_eq!(added["value"], value);
    for path in [&keys, &format!("{keys}/{id}")] {
        assert!(call(&node, "GET", path, json!(null)).to_string().contains(value));
        let response = as_bearer(&node, "the-token-for-reading", "GET", path, "");
        assert!(response.status == 200 && !response.body.contains(value), "{response:?}");
    }
    let held = format!("{:?}", redis.command(&["HGETALL", "tg:{registry}"]));
    assert!(held.contains("sealed") && !held.contains(value), "{held}");
    let log = node.log();
    assert!(log.contains("values of API keys are shown") && !log.contains(value), "{log}");
}

#[test]
fn an_encryption_key_is_replaced_by_one_before_it_and_a_value_without_its_key_is_absent() {
    let redis = RedisServer::start();
    let name = |name: &str| json!({"name": name, "value": format!("{name}-{name}-{name}-{name}")});
    let make = |node: &Node, body| {
        let made = call(node, "POST", "/apikeys", body);
        (made["id"].as_str().unwrap().to_owned(), made["value"].clone())
    };
    let (first, first_value) = make(&node(&redis, OLD), name("first"));
    let both = node(&redis, &format!("{NEW}, {OLD}"));
    let (second, second_value) = make(&both, name("second"));
    assert_eq!(value_of(&both, &first), first_value);
    assert_eq!(value_of(&both, &second), second_value);
    let new = node(&redis, NEW);
    assert_eq!(value_of(&new, &second), second_value, "the first key sealed it");
    assert_eq!(value_of(&new, &first), json!(null));
    let explained = |line: &str| line.contains("ERROR") && line.contains(&first);
    assert!(new.log().lines().any(explained), "{}", new.log());
    // An import of an existing value encrypts it again.
    let csv = "Name,Key\nfirst,first-first-first-first\n";
    let path = "/apikeys?mode=import&format=csv";
    assert_eq!(as_bearer(&new, TOKEN, "POST", path, csv).status, 201);
    assert_eq!(value_of(&new, &first), first_value);
    let none = node(&redis, "");
    assert_eq!(value_of(&none, &second), json!(null));
    assert!(!none.log().contains("ERROR"), "nobody asked for values: {}", none.log());
}

#[test]
fn on_redis_without_an_encryption_key_a_signed_request_may_choose_no_value() {
    let redis = RedisServer::start();
    let node = super::node(None, &["--store", &redis.url()]);
    let missing = "TOLLGATE_KEY_ENCRYPTION_KEY is missing";
    let log = node.log();
    assert_eq!(log.lines().filter(|line| line.contains(missing)).count(), 1, "{log}");
    // A program that reads no value back would replace the key in each run.
    let refused = aws(&node, &["--value", "a-value-that-is-long-enough"]).unwrap_err();
    assert!(refused.contains("BadRequestException"), "{refused}");
    assert!(refused.contains("`tollgate keygen` prints one"), "{refused}");
    let random = aws(&node, &["--value", ""]).unwrap();
    assert_eq!(random["value"].as_str().map(str::len), Some(40), "{random}");
    let body = json!({"name": "k", "value": "a-value-that-is-long-enough"}).to_string();
    assert_eq!(as_bearer(&node, TOKEN, "POST", "/apikeys", &body).status, 201);
    let kept = self::node(&redis, OLD);
    assert!(!kept.log().contains(missing));
    let chosen = aws(&kept, &["--value", "another-value-that-is-long"]).unwrap();
    assert_eq!(value_of(&kept, chosen["id"].as_str().unwrap()), "another-value-that-is-long");
}

/// Creates a key by a signed request of the aws command line; the error is what it printed.
fn aws(node: &Node, arguments: &[&str]) -> Result<serde_json::Value, String> {
    let output = Command::new("aws")
        .args(["apigateway", "--endpoint-url", &format!("http://{}", node.admin())])
        .args(["create-api-key", "--name", "k", "--output", "json"])
        .args(arguments)
        .env("AWS_ACCESS_KEY_ID", "AKIATEST")
        .env("AWS_SECRET_ACCESS_KEY", "a-secret-for-tests")
        .envs([("AWS_DEFAULT_REGION", "local"), ("AWS_PAGER", "")])
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

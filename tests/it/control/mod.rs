//! The control plane: AWS' own client uses it, its changes reach every node, and unauthenticated
//! requests are rejected.

mod alongside;
mod audit;
mod bad_input;
mod corrections;
mod file_resources;
mod unknown_keys;
mod import;
mod key_policies;
mod override_parts;
mod overrides;
mod plans;
mod restart;
mod rotation;
mod starting;
pub mod usage;
mod values;

use std::process::Command;

use serde_json::json;

use crate::support::http::{self, Response};
use crate::support::node::Node;
use crate::support::redis::RedisServer;
use crate::support::{eventually, repository};

const TOKEN: &str = "a-token-for-tests";
const ACCESS: [(&str, &str); 5] = [
    ("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"),
    ("TOLLGATE_ADMIN_TOKEN", TOKEN),
    ("TOLLGATE_ADMIN_READ_TOKEN", "may-only-read"),
    ("TOLLGATE_ADMIN_ACCESS_KEY_ID", "AKIATEST"),
    ("TOLLGATE_ADMIN_SECRET_ACCESS_KEY", "a-secret-for-tests"),
];

pub fn node(catalog: Option<&str>, flags: &[&str]) -> Node {
    Node::launch(catalog, flags, &ACCESS)
}

fn as_bearer(node: &Node, token: &str, method: &str, path: &str, body: &str) -> Response {
    let bearer = format!("Bearer {token}");
    http::send(node.admin(), method, path, &[("authorization", &bearer)], body)
}

/// Sends a request that has to succeed, and returns the response's JSON.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "json! makes a value")]
pub fn call(node: &Node, method: &str, path: &str, body: serde_json::Value) -> serde_json::Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = as_bearer(node, TOKEN, method, path, &body);
    assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    if answer.body.is_empty() { json!(null) } else { answer.json() }
}

/// Creates a plan with this burst and a key on it; returns the key's id and value, and the plan's
/// id.
fn plan_and_key(node: &Node, burst: u64) -> (String, String, String) {
    let throttle = json!({"rateLimit": 0.001, "burstLimit": burst});
    let plan = call(node, "POST", "/usageplans", json!({"name": "p", "throttle": throttle}));
    let key = call(node, "POST", "/apikeys", json!({"name": "k", "enabled": true}));
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let (plan, id, value) = (text(&plan["id"]), text(&key["id"]), text(&key["value"]));
    let link = json!({"keyId": id, "keyType": "API_KEY"});
    call(node, "POST", &format!("/usageplans/{plan}/keys"), link);
    (id, value, plan)
}

/// Runs a program of `tests/it/aws` against a node.
fn boto3_runs(program: &str, node: &Node) {
    let output = Command::new(repository("target/python/bin/python"))
        .arg(repository("tests/it/aws").join(program))
        .args([format!("http://{}", node.admin()), format!("http://{}", node.address())])
        .envs([("AWS_ACCESS_KEY_ID", "AKIATEST"), ("AWS_SECRET_ACCESS_KEY", "a-secret-for-tests")])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}\n{}", node.log());
}

#[test]
fn awss_own_client_runs_the_mission_on_redis_and_the_next_check_follows_it() {
    let redis = RedisServer::start();
    boto3_runs("mission.py", &node(None, &["--store", &redis.url()]));
}

#[test]
fn awss_own_client_runs_the_mission_in_the_embedded_mode() {
    boto3_runs("mission.py", &node(None, &[]));
}

#[test]
fn the_aws_command_line_runs_the_commands_of_the_readme() {
    let node = node(None, &[]);
    let aws = |words: &str| {
        let output = Command::new("aws")
            .args(["apigateway", "--endpoint-url", &format!("http://{}", node.admin())])
            .args(words.split(' '))
            .args(["--output", "json"])
            .env("AWS_ACCESS_KEY_ID", "AKIATEST")
            .env("AWS_SECRET_ACCESS_KEY", "a-secret-for-tests")
            .envs([("AWS_DEFAULT_REGION", "local"), ("AWS_PAGER", "")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let mut shown = readme.lines().filter_map(|line| line.strip_prefix("gateway "));
    let mut next = || shown.next().unwrap().split("  #").next().unwrap().trim_end().to_owned();
    let plan = aws(&next());
    let key = aws(&next());
    let link = next().replace("PLAN", plan["id"].as_str().unwrap());
    aws(&link.replace(" KEY ", &format!(" {} ", key["id"].as_str().unwrap())));
    let answer = node.check(json!({"api_key": key["value"]})).json();
    assert_eq!((&answer["allowed"], &answer["key"]["plan"]), (&json!(true), &plan["id"]));
    assert_eq!(answer["limits"][1]["limit"], 1000);
}

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
                        // After a conflict with other changes a client sends its request again.
                        while as_bearer(node, TOKEN, "POST", "/usageplans", &body).status == 409 {}
                    }
                });
            }
        }
    });
    let plans = call(&nodes[0], "GET", "/usageplans?limit=100", json!(null));
    assert_eq!(plans["item"].as_array().unwrap().len(), 20);
}

#[test]
fn the_apis_resources_and_the_files_are_in_use_together() {
    let file = r"
version: 1
plans: [{ id: free, throttle: { rate: 1/min, burst: 7 } }]
keys: [{ id: filed, value: the-key-of-the-catalog-file, plans: [free] }]
";
    let node = node(Some(file), &[]);
    let (id, value, _) = plan_and_key(&node, 3);
    assert_eq!(node.check(json!({"api_key": "the-key-of-the-catalog-file"})).status, 200);
    assert_eq!(node.check(json!({"api_key": value})).json()["key"]["id"], id);
    let taken = json!({"name": "x", "value": "the-key-of-the-catalog-file"}).to_string();
    assert_eq!(as_bearer(&node, TOKEN, "POST", "/apikeys", &taken).status, 409);
    let taken = json!({"name": "x", "tags": {"_custom_id_": "free"}}).to_string();
    let answer = as_bearer(&node, TOKEN, "POST", "/usageplans", &taken);
    assert!(answer.status == 409 && answer.body.contains("catalog file"), "{answer:?}");
    // The API does not change the file's resources, but keys may be added to the file's plans.
    let patch = json!({"patchOperations": [{"op": "replace", "path": "/name", "value": "x"}]});
    for path in ["/usageplans/free", "/apikeys/filed"] {
        for (method, body) in [("PATCH", patch.to_string()), ("DELETE", String::new())] {
            let answer = as_bearer(&node, TOKEN, method, path, &body);
            assert!(answer.status == 409 && answer.body.contains("catalog file"), "{answer:?}");
        }
    }
    let more = call(&node, "POST", "/apikeys", json!({"name": "more", "enabled": true}));
    let link = json!({"keyId": more["id"], "keyType": "API_KEY"});
    call(&node, "POST", "/usageplans/free/keys", link);
    assert_eq!(node.check(json!({"api_key": more["value"]})).json()["key"]["plan"], "free");
    std::fs::write(node.catalog_file(), "version: 1").unwrap();
    eventually("the file's key is refused", || {
        node.check(json!({"api_key": "the-key-of-the-catalog-file"})).status == 403
    });
    assert_eq!(node.check(json!({"api_key": value})).status, 200);
}

#[test]
fn without_a_credential_there_is_no_admin_api_and_unauthenticated_requests_are_rejected() {
    assert!(Node::start(&[]).admin_address().is_none());
    let node = node(None, &[]);
    let kind = |answer: &Response| answer.header("x-amzn-errortype").unwrap().to_owned();
    let nobody = http::send(node.admin(), "GET", "/apikeys", &[], "");
    assert_eq!((nobody.status, &*kind(&nobody)), (403, "MissingAuthenticationTokenException"));
    assert!(nobody.header("x-amzn-requestid").is_some());
    assert_eq!(as_bearer(&node, "may-only-read", "GET", "/apikeys", "").status, 200);
    let denied = as_bearer(&node, "may-only-read", "POST", "/apikeys", "{}");
    assert_eq!((denied.status, &*kind(&denied)), (403, "AccessDeniedException"));
    // One failure is counted already; soon every request from this address is rejected.
    let guess = || as_bearer(&node, "a-guess", "GET", "/apikeys", "").status;
    let statuses: Vec<u16> = (0..12).map(|_| guess()).collect();
    assert_eq!(statuses[0], 401);
    assert_eq!(statuses[11], 429, "{statuses:?}");
}

#[test]
fn a_keys_value_is_returned_once_and_stored_nowhere() {
    let redis = RedisServer::start();
    let node = node(None, &["--store", &redis.url()]);
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
fn with_a_data_directory_a_restart_loses_no_key_and_no_plan() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", dir.path().to_str().unwrap()];
    let first = node(None, &flags);
    let (_, value, plan) = plan_and_key(&first, 5);
    // Two nodes cannot share it: each would overwrite the other's changes.
    let second = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(flags)
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("data directory"));
    assert_eq!(first.stop(), Some(0));
    let again = node(None, &flags);
    assert_eq!(again.check(json!({"api_key": value})).json()["key"]["plan"], json!(plan));
    assert_eq!(again.check(json!({"api_key": "demo-key"})).status, 403, "the example is gone");
}

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

//! The control plane: AWS' own client uses it, its changes reach every node, and unauthenticated
//! requests are rejected.

mod alongside;
mod audit;
mod audit_in_redis;
mod aws;
mod bad_input;
mod bounds;
mod concurrent_editors;
mod corrections;
mod explain;
mod file_resources;
mod heavy_work;
mod import;
mod key_names;
mod key_policies;
mod members;
mod keyless_methods;
mod metering;
mod nodes;
mod override_parts;
mod overrides;
mod permissions;
mod plan_ids;
mod plans;
mod preview;
mod restart;
mod rotation;
mod starting;
mod tail;
pub mod top;
mod top_in_redis;
mod unknown_keys;
mod unreachable;
pub mod usage;
mod values;

use std::process::Command;

use serde_json::json;

use crate::support::eventually;
use crate::support::http::{self, Response};
use crate::support::node::Node;

pub const TOKEN: &str = "a-token-for-tests";
const ACCESS: [(&str, &str); 5] = [
    ("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"),
    ("TOLLGATE_ADMIN_TOKEN", TOKEN),
    ("TOLLGATE_ADMIN_READ_TOKEN", "the-token-for-reading"),
    ("TOLLGATE_ADMIN_ACCESS_KEY_ID", "AKIATEST"),
    ("TOLLGATE_ADMIN_SECRET_ACCESS_KEY", "a-secret-for-tests"),
];

pub fn node(catalog: Option<&str>, flags: &[&str]) -> Node {
    Node::launch(catalog, flags, &ACCESS)
}

pub fn as_bearer(node: &Node, token: &str, method: &str, path: &str, body: &str) -> Response {
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
    assert_eq!(as_bearer(&node, "the-token-for-reading", "GET", "/apikeys", "").status, 200);
    let denied = as_bearer(&node, "the-token-for-reading", "POST", "/apikeys", "{}");
    assert_eq!((denied.status, &*kind(&denied)), (403, "AccessDeniedException"));
    // One failure is counted already; soon every request from this address is rejected.
    let guess = || as_bearer(&node, "a-guess", "GET", "/apikeys", "").status;
    let statuses: Vec<u16> = (0..12).map(|_| guess()).collect();
    assert_eq!(statuses[0], 401);
    assert_eq!(statuses[11], 429, "{statuses:?}");
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

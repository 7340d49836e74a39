//! The audit log has every change with its author, and no secret.

use serde_json::{Value, json};

use super::{TOKEN, as_bearer, call, node};
use crate::support::http::Response;
use crate::support::node::Node;

pub fn audit(node: &Node, query: &str) -> Value {
    call(node, "GET", &format!("/audit?{query}"), json!(null))
}

/// Makes one change of each kind, and returns each request with its response.
fn changes(node: &Node) -> Vec<(&'static str, String, Response)> {
    let mut made = Vec::new();
    let mut change = |method: &'static str, path: String, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = as_bearer(node, TOKEN, method, &path, &body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        let response = serde_json::from_str::<Value>(&answer.body).unwrap_or_default();
        made.push((method, path.split('?').next().unwrap().to_owned(), answer));
        response["id"].as_str().unwrap_or_default().to_owned()
    };
    let patch = |path: &str, value: &str| json!({"patchOperations": [{"op": "replace", "path": path, "value": value}]});
    let api = change("POST", "/restapis".into(), json!({"name": "a"}));
    let root = call(node, "GET", &format!("/restapis/{api}/resources"), json!(null));
    let root = root["item"][0]["id"].as_str().unwrap().to_owned();
    let method = format!("/restapis/{api}/resources/{root}/methods/GET");
    change("PUT", method.clone(), json!({"authorizationType": "NONE"}));
    change("PUT", format!("{method}/integration"), json!({"type": "MOCK"}));
    change("DELETE", method, json!(null));
    change("POST", format!("/restapis/{api}/deployments"), json!({"stageName": "prod"}));
    change("PATCH", format!("/restapis/{api}/stages/prod"), patch("/description", "d"));
    let plan = change("POST", "/usageplans".into(), json!({"name": "p"}));
    change("PATCH", format!("/usageplans/{plan}"), patch("/throttle/rateLimit", "3"));
    let key = change("POST", "/apikeys".into(), json!({"name": "k", "enabled": true}));
    change("PATCH", format!("/apikeys/{key}"), patch("/enabled", "false"));
    let link = json!({"keyId": key, "keyType": "API_KEY"});
    change("POST", format!("/usageplans/{plan}/keys"), link);
    let arn = format!("arn:aws:apigateway:local::%2Fapikeys%2F{key}");
    change("PUT", format!("/tags/{arn}"), json!({"tags": {"a": "b"}}));
    change("DELETE", format!("/tags/{arn}?tagKeys=a"), json!(null));
    change("DELETE", format!("/usageplans/{plan}/keys/{key}"), json!(null));
    change("DELETE", format!("/apikeys/{key}"), json!(null));
    change("DELETE", format!("/usageplans/{plan}"), json!(null));
    made
}

pub fn every_change_is_logged(node: &Node) {
    let made = changes(node);
    // A refused request changes nothing, and is not in the log.
    assert_eq!(as_bearer(node, TOKEN, "POST", "/usageplans", "{}").status, 400);
    assert_eq!(as_bearer(node, "the-token-for-reading", "DELETE", "/usageplans/x", "").status, 403);
    let logged = audit(node, "limit=500");
    let logged = logged["item"].as_array().unwrap();
    assert_eq!(logged.len(), made.len());
    for ((method, path, answer), note) in made.iter().rev().zip(logged) {
        assert_eq!(note["who"], "admin_token");
        assert_eq!((&note["method"], &note["path"]), (&json!(method), &json!(path)));
        assert_eq!(note["status"], answer.status, "{note}");
        assert_eq!(note["requestId"].as_str(), answer.header("x-amzn-requestid"));
        assert!(note["at"].as_str().unwrap().starts_with("20"), "{note}");
        assert!(note["changed"][0].as_str().unwrap().len() > 9, "{note}");
    }
    let secret = made.iter().find_map(|(_, _, answer)| {
        let response = serde_json::from_str::<Value>(&answer.body).ok()?;
        response["value"].as_str().map(str::to_owned)
    });
    let text = as_bearer(node, "the-token-for-reading", "GET", "/audit?limit=500", "").body;
    for part in [&*secret.unwrap(), TOKEN, "sha256", "digest"] {
        assert!(!text.contains(part), "{part}: {text}");
    }
}

#[test]
fn every_change_is_logged_in_the_embedded_mode_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", dir.path().to_str().unwrap()];
    let first = node(None, &flags);
    every_change_is_logged(&first);
    let logged = audit(&first, "limit=500");
    assert_eq!(first.stop(), Some(0));
    assert_eq!(audit(&node(None, &flags), "limit=500"), logged);
}

#[test]
fn the_log_distinguishes_several_tokens_and_a_token_may_be_configured_by_its_digest() {
    let second = tollgate::digest::encode_hex(&tollgate::digest::digest_secret(
        "the-second-token-for-tests",
    ));
    let tokens = format!("{TOKEN},sha256:{second}");
    let check = [("TOLLGATE_CHECK_TOKEN", &*tokens), ("TOLLGATE_ADMIN_TOKEN", &tokens)];
    let node = Node::launch(None, &["--listen-admin", "127.0.0.1:0"], &check);
    for token in [TOKEN, "the-second-token-for-tests"] {
        let plan = r#"{"name":"p"}"#;
        assert_eq!(as_bearer(&node, token, "POST", "/usageplans", plan).status, 201);
        let bearer = [("authorization", &*format!("Bearer {token}"))];
        let body = r#"{"api_key":"demo-key"}"#;
        assert_ne!(node.send("POST", "/check", &bearer, body).status, 401);
    }
    assert_eq!(as_bearer(&node, &second, "GET", "/usageplans", "").status, 401);
    let logged = audit(&node, "limit=2");
    assert_eq!(logged["item"][0]["who"], "admin_token#2");
    assert_eq!(logged["item"][1]["who"], "admin_token#1");
}

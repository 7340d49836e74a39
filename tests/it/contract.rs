//! schemathesis generates requests and compares every response with its OpenAPI document.
//! Needs programs besides Rust, so `make fast` skips it.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::http::{self, Response};
use crate::support::node::Node;
use crate::support::repository;

const TOKEN: &str = "a-token-for-tests";

pub fn node() -> Node {
    let access = [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", TOKEN)];
    Node::launch(None, &[], &access)
}

pub fn request(address: &str, method: &str, path: &str, body: &str) -> Response {
    let bearer = format!("Bearer {TOKEN}");
    http::send(address, method, path, &[("authorization", &bearer)], body)
}

/// Runs schemathesis on every operation, with few cases for each unless `CONTRACT_CASES` is set.
fn schemathesis_passes(address: &str, handles: &str) {
    let cases = std::env::var("CONTRACT_CASES").unwrap_or("15".into());
    let dir = tempfile::tempdir().unwrap();
    for file in ["schemathesis.toml", "hooks.py"] {
        let from = repository("tests/it/contract").join(file);
        std::fs::copy(from, dir.path().join(file)).unwrap();
    }
    let program = repository("target/python/bin/schemathesis");
    let output = Command::new(&program)
        .args(["--config-file", "schemathesis.toml", "run", "--no-color", "--max-examples", &cases])
        // A stream has no end to wait for.
        .args(["--exclude-path", "/tail"])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        .arg(format!("http://{address}/openapi.json"))
        .env("NO_PROXY", "127.0.0.1")
        .env("HANDLES", handles)
        .current_dir(dir.path())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; `make tools` installs it", program.display()));
    let output_text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output_text}{}", String::from_utf8_lossy(&output.stderr));
    eprintln!(
        "{}",
        output_text.lines().find(|line| line.contains(" generated, ")).unwrap_or_default()
    );
}

#[test]
fn every_response_of_the_http_listener_is_as_its_document_describes() {
    let node = node();
    let open = |_| {
        let reservation = json!({"ttl_ms": 3_600_000});
        let check = json!({"policy": "login", "key": "a", "cost": 0, "reservation": reservation});
        let answer = request(node.address(), "POST", "/check", &check.to_string()).json();
        answer["reservation"]["handle"].as_str().unwrap().to_owned()
    };
    let handles: Vec<String> = (0..50).map(open).collect();
    schemathesis_passes(node.address(), &handles.join(" "));
    let text = node.get("/metrics").body;
    for status in ["200", "400", "403", "429"] {
        let answered = format!(r#"tollgate_responses_total{{endpoint="check",status="{status}"}}"#);
        assert!(text.contains(&answered), "no check had a response with {status}");
    }
    for endpoint in ["settle", "cancel", "extend"] {
        let answered = format!(r#"tollgate_responses_total{{endpoint="{endpoint}",status="200"}}"#);
        assert!(text.contains(&answered), "no reservation was changed by {endpoint}");
    }
}

#[test]
fn every_response_of_the_admin_listener_is_as_its_document_describes() {
    let node = node();
    let make = |path: &str, body: Value| {
        let answer = request(node.admin(), "POST", path, &body.to_string());
        assert_eq!(answer.status, 201, "{path}: {answer:?}");
        answer.json()
    };
    let id = |id: &str| json!({"_custom_id_": id});
    make("/restapis", json!({"name": "Shop", "tags": id("shop")}));
    let deployment = make("/restapis/shop/deployments", json!({}));
    let stage = json!({"stageName": "prod", "deploymentId": deployment["id"]});
    make("/restapis/shop/stages", stage);
    make("/usageplans", json!({"name": "Free", "tags": id("free")}));
    make("/apikeys", json!({"name": "Acme", "enabled": true, "tags": id("acme")}));
    schemathesis_passes(node.admin(), "");
}

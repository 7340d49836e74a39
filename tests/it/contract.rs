//! The OpenAPI documents describe every path and method that is served. schemathesis generates
//! requests and compares every response with its document.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::http::{self, Response};
use crate::support::node::Node;
use crate::support::repository;

const TOKEN: &str = "a-token-for-tests";
const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

fn node() -> Node {
    let access = [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", TOKEN)];
    Node::launch(None, &[], &access)
}

fn request(address: &str, method: &str, path: &str, body: &str) -> Response {
    let bearer = format!("Bearer {TOKEN}");
    http::send(address, method, path, &[("authorization", &bearer)], body)
}

/// Compares the document of one listener with the source of its router, and with its responses.
fn document_matches_routes(address: &str, router: &str) {
    let answer = request(address, "GET", "/openapi.json", "");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let source = std::fs::read_to_string(repository(router)).unwrap();
    let served = source.matches(".route(").count() - source.matches("\"/noop\"").count();
    assert_eq!(paths.len(), served, "{router} has {served} routes, its openapi.yaml has others");
    for (path, operations) in paths {
        let parts: Vec<&str> = path.split('/').collect();
        let parts = parts.iter().map(|part| if part.starts_with('{') { "x" } else { part });
        let concrete = parts.collect::<Vec<_>>().join("/");
        for method in METHODS {
            let answer = request(address, &method.to_uppercase(), &concrete, "{}");
            let is_nowhere = answer.status == 404 && answer.body.contains("nothing at");
            assert!(!is_nowhere, "{path} is documented and not served");
            let (documented, served) = (operations.get(method).is_some(), answer.status != 405);
            assert_eq!(documented, served, "{method} {path}: {answer:?}");
        }
    }
}

#[test]
fn both_documents_describe_every_served_path_and_method_and_no_other() {
    let node = node();
    document_matches_routes(node.address(), "src/http/mod.rs");
    document_matches_routes(node.admin(), "src/admin/mod.rs");
}

/// Runs schemathesis on every operation, with few cases for each unless `CONTRACT_CASES` is set.
fn schemathesis_passes(address: &str) {
    let cases = std::env::var("CONTRACT_CASES").unwrap_or("15".into());
    let dir = tempfile::tempdir().unwrap();
    for file in ["schemathesis.toml", "hooks.py"] {
        let from = repository("tests/it/contract").join(file);
        std::fs::copy(from, dir.path().join(file)).unwrap();
    }
    let program = repository("target/python/bin/schemathesis");
    let output = Command::new(&program)
        .args(["--config-file", "schemathesis.toml", "run", "--no-color", "--max-examples", &cases])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        .arg(format!("http://{address}/openapi.json"))
        .env("NO_PROXY", "127.0.0.1")
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
    schemathesis_passes(node.address());
    let text = node.get("/metrics").body;
    for status in ["200", "400", "403", "429"] {
        let answered = format!(r#"tollgate_responses_total{{endpoint="check",status="{status}"}}"#);
        assert!(text.contains(&answered), "no check had a response with {status}");
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
    schemathesis_passes(node.admin());
}

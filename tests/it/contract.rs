//! The OpenAPI documents, held to what is served: path by path and method by method, and by
//! schemathesis, which makes up requests and compares every answer with what is promised.

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

fn ask(address: &str, method: &str, path: &str, body: &str) -> Response {
    let bearer = format!("Bearer {TOKEN}");
    http::send(address, method, path, &[("authorization", &bearer)], body)
}

/// Holds the document of one listener to the source of its router, and to its answers.
fn says_what_it_serves(address: &str, router: &str) {
    let answer = ask(address, "GET", "/openapi.json", "");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let source = std::fs::read_to_string(repository(router)).unwrap();
    let served = source.matches(".route(").count() - source.matches("\"/noop\"").count();
    assert_eq!(paths.len(), served, "{router} has {served} routes, openapi.yaml beside it others");
    for (path, operations) in paths {
        let asked: Vec<&str> = path.split('/').collect();
        let asked = asked.iter().map(|part| if part.starts_with('{') { "x" } else { part });
        let asked = asked.collect::<Vec<_>>().join("/");
        for method in METHODS {
            let answer = ask(address, &method.to_uppercase(), &asked, "{}");
            let is_nowhere = answer.status == 404 && answer.body.contains("nothing at");
            assert!(!is_nowhere, "{path} is documented and not served");
            let (documented, served) = (operations.get(method).is_some(), answer.status != 405);
            assert_eq!(documented, served, "{method} {path}: {answer:?}");
        }
    }
}

#[test]
fn both_documents_name_every_path_and_method_that_is_served_and_no_other() {
    let node = node();
    says_what_it_serves(node.address(), "src/http/mod.rs");
    says_what_it_serves(node.admin(), "src/admin/mod.rs");
}

/// Lets schemathesis try every operation; the number of cases for each is few unless said.
fn keeps_its_word(address: &str) {
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
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{}", said.lines().find(|line| line.contains(" generated, ")).unwrap_or_default());
}

#[test]
fn schemathesis_finds_no_answer_of_the_http_listener_that_is_not_promised() {
    let node = node();
    keeps_its_word(node.address());
    let text = node.get("/metrics").body;
    for status in ["200", "400", "403", "429"] {
        let answered = format!(r#"tollgate_responses_total{{endpoint="check",status="{status}"}}"#);
        assert!(text.contains(&answered), "no check was answered with {status}");
    }
}

#[test]
fn schemathesis_finds_no_answer_of_the_admin_listener_that_is_not_promised() {
    let node = node();
    let make = |path: &str, body: Value| {
        let answer = ask(node.admin(), "POST", path, &body.to_string());
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
    keeps_its_word(node.admin());
}

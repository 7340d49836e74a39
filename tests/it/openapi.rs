//! The OpenAPI documents describe every path and method that is served. `contract` compares
//! responses with them.

use serde_json::{Value, json};

use crate::contract::{node, request};
use crate::support::repository;

const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

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
        // A stream would not end.
        let query = if path == "/tail" { "?rate=0" } else { "" };
        let concrete = parts.collect::<Vec<_>>().join("/") + query;
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

/// The example requests of an operation.
fn examples(operation: &Value) -> Vec<Value> {
    let content = &operation["requestBody"]["content"]["application/json"];
    let named = content["examples"].as_object().into_iter().flat_map(|named| named.values());
    let named = named.map(|example| example["value"].clone());
    named.chain(content.get("example").cloned()).collect()
}

#[test]
fn the_examples_of_the_document_are_requests_that_succeed() {
    let node = node();
    let document = node.get("/openapi.json").json();
    let mut sent = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for mut example in examples(&operations["post"]) {
            if example.get("handle").is_some() {
                let reservation = json!({"ttl_ms": 60_000});
                let check = json!({"policy": "login", "key": path, "reservation": reservation});
                let reserved = request(node.address(), "POST", "/check", &check.to_string()).json();
                example["handle"] = reserved["reservation"]["handle"].clone();
            }
            let answer = request(node.address(), "POST", path, &example.to_string());
            assert_eq!(answer.status, 200, "{path} {example}: {answer:?}");
            sent += 1;
        }
    }
    assert_eq!(sent, 8, "the document has other examples than the test knows");
}

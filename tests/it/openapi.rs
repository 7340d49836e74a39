//! The OpenAPI documents describe every path and method that is served. `contract` compares
//! responses with them.

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

//! `tollgate export` against a running node.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{TOKEN, node, run, shown, table};
use crate::support::http;
use crate::support::node::Node;

#[track_caller]
fn call(node: &Node, method: &str, path: &str, body: &Value) -> Value {
    let bearer = ("authorization", &*format!("Bearer {TOKEN}"));
    let answer = http::send(node.admin(), method, path, &[bearer], &body.to_string());
    assert!(matches!(answer.status, 200 | 201), "{method} {path}: {answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

/// Creates an API with a stage and its throttles, and a plan with all kinds of limits.
fn declare(node: &Node) {
    call(node, "POST", "/restapis", &json!({"name": "Pets", "tags": {"_custom_id_": "pets"}}));
    call(node, "POST", "/restapis/pets/deployments", &json!({"stageName": "prod"}));
    let set = |path: &str, value: &str| json!({"op": "replace", "path": path, "value": value});
    let patch = json!({"patchOperations": [
        set("/throttle/rateLimit", "500"), set("/throttle/burstLimit", "600"),
        set("/~1pets~1{id}/GET/throttling/rateLimit", "0.5"),
        set("/~1pets~1{id}/GET/throttling/burstLimit", "3"),
        set("/*/*/throttling/rateLimit", "50"),
        set("/limits", r#"[{"name": "gpu", "unit": "total_tokens", "quota": {"limit": 9, "period": "day"}}]"#),
    ]});
    call(node, "PATCH", "/restapis/pets/stages/prod", &patch);
    let plan = json!({
        "name": "Basic", "tags": {"_custom_id_": "basic"},
        "throttle": {"rateLimit": 0.25, "burstLimit": 7},
        "quota": {"limit": 1000, "period": "WEEK", "offset": 1, "timeZone": "Europe/Berlin"},
        "apiStages": [{"apiId": "pets", "stage": "prod",
            "throttle": {"/pets/POST": {"rateLimit": 2, "burstLimit": 2}}}],
        "limits": [{"name": "tpm", "unit": "total_tokens",
            "throttle": {"rate": "100000/min", "burst": 100_000}}],
        "onStoreFailure": "closed", "mode": "shadow",
    });
    call(node, "POST", "/usageplans", &plan);
}

fn validate(catalog: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.yaml");
    fs::write(&file, catalog).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let done = command.arg("validate").arg(&file).output().unwrap();
    let output = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(output).unwrap())
}

#[test]
fn another_node_decides_the_same_by_an_exported_catalog() {
    let node = node();
    declare(&node);
    let key = shown(&node, "keys create acme --plan basic");
    let exported = table(&node, "export");
    let (valid, output) = validate(&exported);
    assert!(valid && output.contains("1 API, 1 plan, 0 keys"), "{output}\n{exported}");
    assert!(exported.contains("version: 1\napis:\n"), "{exported}");
    assert!(!exported.contains(key["id"].as_str().unwrap()), "{exported}");
    let with_key = format!("{exported}keys: [{{ id: k, value: a-key, plans: [basic] }}]\n");
    let other = Node::with_catalog(&with_key, &[]);
    let names = |node: &Node, value: &Value| {
        let call = json!({
            "api_key": value, "api": "pets", "stage": "prod", "method": "GET", "path": "/pets/7",
            "cost": {"requests": 0, "total_tokens": 0},
        });
        let answer: Value = serde_json::from_str(&node.check(call).body).unwrap();
        let limits = answer["limits"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
        limits
            .iter()
            .map(|limit| [&limit["name"], &limit["limit"]].map(Value::to_string))
            .collect::<Vec<_>>()
    };
    let here = names(&node, &key["value"]);
    assert!(here.len() >= 6 && here[5][0] == "\"stage:pets/prod/gpu\"", "{here:?}");
    assert_eq!(here, names(&other, &"a-key".into()));
}

#[test]
fn keys_are_exported_by_the_digests_of_their_values() {
    let node = node();
    declare(&node);
    let key = shown(&node, "keys create acme --plan basic --customer-id c-1 --disabled");
    let overrides = r#"{"basic":{"throttle":{"burstLimit":9}}}"#;
    let operation = json!({"op": "replace", "path": "/overrides", "value": overrides});
    let path = format!("/apikeys/{}", key["id"].as_str().unwrap());
    call(&node, "PATCH", &path, &json!({"patchOperations": [operation]}));
    let exported = table(&node, "export --keys");
    let shown = &shown(&node, "export --keys")["keys"][0];
    let digest = shown["value_sha256"].as_str().unwrap();
    let expected = json!({
        "id": key["id"], "name": "acme", "customer_id": "c-1", "enabled": false, "plans": ["basic"],
        "overrides": {"basic": {"throttle": {"burst": 9}}}, "value_sha256": digest,
    });
    assert_eq!(*shown, expected);
    assert!(digest.len() == 64 && exported.contains(digest), "{exported}");
    assert!(!exported.contains(key["value"].as_str().unwrap()));
    assert!(validate(&exported).0, "{exported}");
}

#[test]
fn an_export_of_nothing_is_a_valid_catalog_and_so_is_json() {
    let node = node();
    assert!(validate(&table(&node, "export")).0);
    declare(&node);
    let exported = shown(&node, "export");
    assert_eq!(exported["plans"][0]["throttle"], json!({"rate": "0.25/s", "burst": 7}));
    assert!(validate(&exported.to_string()).0);
}

#[test]
fn an_export_that_refers_to_the_services_own_file_is_reported_as_incomplete() {
    let access = [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", TOKEN)];
    let file = "version: 1\napis: [{ id: filed, stages: [{ name: prod }] }]\n";
    let node = Node::launch(Some(file), &[], &access);
    let stages = json!([{"apiId": "filed", "stage": "prod"}]);
    call(&node, "POST", "/usageplans", &json!({"name": "p", "apiStages": stages}));
    let (code, out, stderr) = run(&node, "export");
    assert_eq!(code, Some(2), "{stderr}");
    assert!(out.contains("filed") && stderr.contains("there is no api `filed`"), "{stderr}");
}

//! The JSON Schema of catalog files, with an independent validator: every catalog of the repository
//! is valid, and mistakes are not. The list of members is compared in `reference`.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::repository;

/// Prints an error for each document that is not as the schema says.
const VALIDATE: &str = "
import json, sys, jsonschema_rs
schema, documents = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
validator = jsonschema_rs.validator_for(schema)
print(json.dumps([[str(error) for error in validator.iter_errors(one)] for one in documents]))
";

/// The errors of each document.
fn errors(documents: &[Value]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("documents.json");
    fs::write(&file, serde_json::to_string(documents).unwrap()).unwrap();
    let mut python = Command::new(repository("target/python/bin/python"));
    python.args(["-c", VALIDATE]).arg(repository("docs/reference/catalog.schema.json")).arg(file);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The catalogs in files and in the pages: blocks of YAML that begin with a version.
fn catalogs() -> Vec<Value> {
    let listed = Command::new("git").args(["ls-files"]).current_dir(repository("")).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    let mut texts = Vec::new();
    for path in listed.lines() {
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        let is_file = path.starts_with("deploy/") || path == "src/catalog/example.yaml";
        let text = || fs::read_to_string(repository(path)).unwrap();
        match extension {
            "md" => {
                let text = text();
                let blocks =
                    text.split("```yaml\n").skip(1).map(|it| it.split("```").next().unwrap());
                texts.extend(blocks.map(str::to_owned));
            }
            "yaml" if is_file => texts.push(text()),
            _ => {}
        }
    }
    let begins = |line: &str| !line.starts_with('#') && !line.is_empty();
    texts.retain(|text| text.lines().find(|line| begins(line)) == Some("version: 1"));
    texts.iter().map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

#[test]
fn every_catalog_of_the_repository_is_as_the_schema_says() {
    let catalogs = catalogs();
    assert!(catalogs.len() > 8, "{}", catalogs.len());
    for (catalog, errors) in catalogs.iter().zip(errors(&catalogs)) {
        assert!(errors.is_empty(), "{errors:#?} {catalog:#}");
    }
}

#[test]
fn the_schema_refuses_what_an_editor_should_underline() {
    let plan = |plan: Value| json!({"version": 1, "plans": [plan]});
    let wrong = [
        json!({"version": 2}),
        json!({"version": 1, "plan": []}),
        plan(json!({"throttle": {"rate": "1/s", "burst": 1}})),
        plan(json!({"id": "a b"})),
        plan(json!({"id": "a", "throttle": {"rate": "10 per second", "burst": 1}})),
        plan(json!({"id": "a", "throttle": {"rate": "10/s"}})),
        plan(json!({"id": "a", "quota": {"limit": 0, "period": "day"}})),
        plan(json!({"id": "a", "quota": {"limit": 10, "period": "daily"}})),
        plan(json!({"id": "a", "on_store_failure": "close"})),
        plan(json!({"id": "a", "limits": [{"name": "x"}]})),
        json!({"version": 1, "keys": [{"id": "a", "value_sha256": "abc"}]}),
        json!({"version": 1, "policies": [{"name": "a", "v4_prefix": 33}]}),
    ];
    for (document, errors) in wrong.iter().zip(errors(&wrong)) {
        assert!(!errors.is_empty(), "{document}");
    }
}

//! What the documents say, held against the program.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::node::Node;
use crate::support::repository;

fn document(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap()
}

/// All documents of the repository, by their paths.
fn documents() -> Vec<String> {
    let told = Command::new("git").args(["ls-files", "*.md"]).current_dir(repository("")).output();
    let told = String::from_utf8(told.unwrap().stdout).unwrap();
    told.lines().map(str::to_owned).collect()
}

/// The first block of YAML behind a heading.
fn catalog_of_the_readme() -> String {
    let readme = document("README.md");
    let behind = readme.split_once("## Your own limits").unwrap().1;
    behind.split_once("```yaml\n").unwrap().1.split_once("```").unwrap().0.to_owned()
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let all = documents();
    assert!(all.len() > 10, "{all:?}");
    for path in all {
        let text = document(&path);
        let folder = repository(&path).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            let is_ours = !file.is_empty() && !file.contains("://");
            assert!(!is_ours || folder.join(file).exists(), "{path}: {target}");
        }
    }
}

#[test]
fn the_guide_names_every_metric_and_no_other() {
    let node = Node::start(&[]);
    node.check(json!({"api_key": "demo-key"}));
    let exposed = node.get("/metrics").body;
    let exposed: BTreeSet<&str> = exposed
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let guide = document("docs/production.md");
    let rows = guide.lines().filter(|line| line.starts_with("| `tollgate_"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split(", "));
    let told: BTreeSet<&str> = names.map(|name| name.trim().trim_matches('`')).collect();
    let missing: Vec<_> = exposed.difference(&told).collect();
    assert!(missing.is_empty(), "not in the guide: {missing:?}");
    // Webhooks' are there where there is a receiver.
    let more: Vec<_> = told.difference(&exposed).filter(|name| !name.contains("webhook")).collect();
    assert!(more.is_empty(), "in the guide only: {more:?}");
}

#[test]
fn the_readmes_catalog_serves_as_the_readme_says_and_fits_a_cluster() {
    let catalog = catalog_of_the_readme();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.yaml");
    fs::write(&file, &catalog).unwrap();
    for store in ["memory", "redis+cluster://127.0.0.1:1"] {
        let mut validate = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        let told = validate.args(["validate", "--store", store]).arg(&file).output().unwrap();
        assert!(told.status.success(), "{store}: {}", String::from_utf8_lossy(&told.stderr));
    }
    let node = Node::with_catalog(&catalog, &[]);
    let asked = json!({
        "api_key": "alice", "api": "inference", "stage": "prod", "method": "POST",
        "path": "/v1/chat/completions", "cost": {"requests": 1, "total_tokens": 350},
    });
    let names: Vec<_> = node.check(asked).json()["limits"].as_array().unwrap().clone();
    let names: Vec<_> = names.iter().map(|limit| limit["name"].as_str().unwrap()).collect();
    let expected = [
        "free/throttle",
        "free/quota",
        "free/tpm",
        "stage:inference/prod/POST /v1/chat/completions/throttle",
        "stage:inference/prod/throttle",
    ];
    assert_eq!(names, expected);
    assert!(node.passes("login", "ip:203.0.113.7", 5));
}

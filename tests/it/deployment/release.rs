//! The workflows and docker-compose.yml by the schemas of their formats, and the SBOM of a release.
//! No workflow runs here.
//! Needs programs besides Rust, so `make fast` skips it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::repository;

fn is_valid(schema: &str, files: &[&str]) {
    let mut check = Command::new(repository("target/python/bin/check-jsonschema"));
    check.args(["--builtin-schema", schema]).args(files).current_dir(repository(""));
    let output = check.output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{schema}: {complaints}");
}

#[test]
fn workflows_and_compose_have_the_form_that_their_programs_read() {
    let folder = repository(".github/workflows");
    let workflows = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let workflows: Vec<_> = workflows.map(|path| path.display().to_string()).collect();
    let workflows: Vec<_> = workflows.iter().map(String::as_str).collect();
    assert!(workflows.iter().any(|path| path.ends_with("/release.yml")), "{workflows:?}");
    is_valid("vendor.github-workflows", &workflows);
    // A job without one runs for six hours when it hangs.
    is_valid("custom.github-workflows-require-timeout", &workflows);
    is_valid("vendor.compose-spec", &["docker-compose.yml"]);
}

#[test]
fn the_sbom_has_the_crates_of_the_binary_with_their_digests_and_no_others() {
    let mut sbom = Command::new("python3");
    sbom.args([".ci/sbom", "x86_64-unknown-linux-gnu"]).current_dir(repository(""));
    let output = sbom.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sbom: Value = serde_json::from_slice(&output.stdout).unwrap();
    let components = sbom["components"].as_array().unwrap();
    let names: BTreeSet<&str> =
        components.iter().map(|component| component["name"].as_str().unwrap()).collect();
    for linked in ["axum", "redb", "redis", "ring", "rustls", "tokio", "tonic"] {
        assert!(names.contains(linked), "no {linked} in {names:?}");
    }
    for other in ["proptest", "protox", "rcgen", "shuttle", "tollgate", "windows-sys"] {
        assert!(!names.contains(other), "{other} is not in the binary");
    }
    let lock = fs::read_to_string(repository("Cargo.lock")).unwrap();
    // A crate of this repository has no digest of its own.
    for component in components.iter().filter(|it| it["name"] != "tollgate-core") {
        let digest = component["hashes"][0]["content"].as_str().unwrap();
        assert!(digest.len() == 64 && lock.contains(digest), "{component}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
}

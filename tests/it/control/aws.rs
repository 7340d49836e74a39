//! AWS' own clients, boto3 and the aws command line, use the admin API.
//! Needs programs besides Rust, so `make fast` skips it.

use std::process::Command;

use serde_json::json;

use super::{ACCESS, node};
use crate::support::node::Node;
use crate::support::redis::RedisServer;
use crate::support::repository;

/// Runs a program of `tests/it/aws` against a node.
pub fn boto3_runs(program: &str, node: &Node) {
    boto3_runs_with(program, node, &[]);
}

/// Runs a program of `tests/it/aws` with further arguments against a node.
fn boto3_runs_with(program: &str, node: &Node, arguments: &[&str]) {
    let output = Command::new(repository("target/python/bin/python"))
        .arg(repository("tests/it/aws").join(program))
        .args([format!("http://{}", node.admin()), format!("http://{}", node.address())])
        .args(arguments)
        .envs([("AWS_ACCESS_KEY_ID", "AKIATEST"), ("AWS_SECRET_ACCESS_KEY", "a-secret-for-tests")])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}\n{}", node.log());
}

#[test]
fn awss_own_client_runs_the_mission_on_redis_and_the_next_check_follows_it() {
    let redis = RedisServer::start();
    let key = ("TOLLGATE_KEY_ENCRYPTION_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let environment = [&ACCESS[..], &[key]].concat();
    boto3_runs("mission.py", &Node::launch(None, &["--store", &redis.url()], &environment));
}

#[test]
fn awss_own_client_runs_the_mission_in_the_embedded_mode() {
    boto3_runs("mission.py", &node(None, &[]));
}

#[test]
fn the_aws_command_line_runs_the_commands_of_the_guide() {
    let node = node(None, &[]);
    let aws = |words: &str| {
        let output = Command::new("aws")
            .args(["apigateway", "--endpoint-url", &format!("http://{}", node.admin())])
            .args(words.split(' '))
            .args(["--output", "json"])
            .env("AWS_ACCESS_KEY_ID", "AKIATEST")
            .env("AWS_SECRET_ACCESS_KEY", "a-secret-for-tests")
            .envs([("AWS_DEFAULT_REGION", "local"), ("AWS_PAGER", "")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let guide = std::fs::read_to_string(repository("docs/admin-api.md")).unwrap();
    let mut shown = guide.lines().filter_map(|line| line.strip_prefix("gateway "));
    let mut next = || shown.next().unwrap().split("  #").next().unwrap().trim_end().to_owned();
    let plan = aws(&next());
    let key = aws(&next());
    let link = next().replace("PLAN", plan["id"].as_str().unwrap());
    aws(&link.replace(" KEY ", &format!(" {} ", key["id"].as_str().unwrap())));
    let answer = node.check(json!({"api_key": key["value"]})).json();
    assert_eq!((&answer["allowed"], &answer["key"]["plan"]), (&json!(true), &plan["id"]));
    assert_eq!(answer["limits"][1]["limit"], 1000);
}

#[test]
fn awss_own_client_lists_the_files_resources_and_sees_that_they_are_the_files() {
    boto3_runs("filed.py", &node(Some(super::file_resources::CATALOG), &[]));
}

#[test]
fn awss_own_client_reads_and_corrects_usage_on_redis() {
    let redis = RedisServer::start();
    boto3_runs("usage.py", &node(None, &["--store", &redis.url(), "--check-deadline", "10s"]));
}

#[test]
fn awss_own_client_reads_and_corrects_usage_in_the_embedded_mode() {
    boto3_runs("usage.py", &node(None, &[]));
}

#[test]
fn every_documented_patch_operation_is_shown_afterwards_or_refused_as_at_aws() {
    boto3_runs("patches.py", &node(None, &["--check-deadline", "10s"]));
}

#[test]
fn a_value_of_another_type_is_refused_and_every_response_decodes_strictly() {
    boto3_runs("member_types.py", &node(None, &["--check-deadline", "10s"]));
}

#[test]
fn errors_have_the_words_of_aws_that_programs_search() {
    boto3_runs("words.py", &node(None, &["--check-deadline", "10s"]));
}

#[test]
fn awss_own_client_imports_and_exports_apis_as_openapi_documents() {
    boto3_runs("documents.py", &node(None, &["--check-deadline", "10s"]));
}

#[test]
fn the_calls_of_terraforms_provider_create_read_update_and_destroy_every_resource() {
    boto3_runs("provider.py", &node(None, &["--check-deadline", "10s"]));
}

#[test]
fn every_scenario_of_terraforms_provider_is_planned_without_a_difference_after_each_step() {
    boto3_runs("scenarios.py", &node(None, &["--check-deadline", "10s"]));
}

/// The deadline of the check that shows that a program is enforced: builds may delay it.
const DEADLINE: [&str; 2] = ["--check-deadline", "10s"];
const ROUNDS: &str = "2";

#[test]
fn terraforms_walk_over_77_resources_is_clean_ten_at_a_time_on_a_data_directory() {
    let data = tempfile::tempdir().unwrap();
    let flags = [&DEADLINE[..], &["--data-dir", data.path().to_str().unwrap()]].concat();
    boto3_runs_with("parallel.py", &node(None, &flags), &[ROUNDS]);
}

#[test]
fn terraforms_walk_over_77_resources_is_clean_through_two_nodes_on_redis_at_once() {
    let redis = RedisServer::start();
    let key = ("TOLLGATE_KEY_ENCRYPTION_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let environment = [&ACCESS[..], &[key]].concat();
    let url = redis.url();
    let flags = [&DEADLINE[..], &["--store", &url]].concat();
    let nodes = [0; 2].map(|_| Node::launch(None, &flags, &environment));
    std::thread::scope(|scope| {
        for node in &nodes {
            scope.spawn(move || boto3_runs_with("parallel.py", node, &[ROUNDS]));
        }
    });
}

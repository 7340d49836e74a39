//! The base for kustomize, which the Helm chart rendered (`.ci/helm` compares): valid for Kubernetes,
//! and its pod starts a node.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::http;
use crate::support::node::Node;
use crate::support::redis::RedisServer;
use crate::support::{eventually, repository};

const BASE: &str = "deploy/kustomize/base/tollgate.yaml";

/// The Deployment in the base.
fn deployment() -> Value {
    let text = fs::read_to_string(repository(BASE)).unwrap();
    let mut documents = text.split("\n---\n").filter(|document| !document.trim().is_empty());
    let deployment = documents.find(|document| document.contains("\nkind: Deployment\n"));
    serde_saphyr::from_str(deployment.unwrap()).unwrap()
}

#[test]
fn the_base_is_valid_and_the_environment_of_its_pod_starts_a_node_that_its_probes_find_ready() {
    let mut validate = Command::new(repository("target/python/bin/kubernetes-validate"));
    let output = validate.arg("--strict").arg(repository(BASE)).output().unwrap();
    let complaints =
        String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.contains("deployment/tollgate"), "{complaints}");

    let pod = &deployment()["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["args"], serde_json::json!(["serve"]));
    let redis = RedisServer::start();
    let url = redis.url();
    let mut environment = Vec::new();
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        match (name, variable["value"].as_str()) {
            // The flag of the test's node.
            ("TOLLGATE_LISTEN" | "TOLLGATE_WORKERS", _) => {}
            ("TOLLGATE_STORE", None) => environment.push((name, url.clone())),
            (_, Some(value)) => {
                let value = value.replace("0.0.0.0:9100", "127.0.0.1:0");
                let folder = repository("deploy").display().to_string();
                environment.push((name, value.replace("/etc/tollgate", &folder)));
            }
            (_, None) => panic!("{name} has no value"),
        }
    }
    let given: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let node = Node::launch(None, &[], &given);
    for probe in ["livenessProbe", "readinessProbe"] {
        let request = &container[probe]["httpGet"];
        assert_eq!(request["port"], "ops", "{probe}");
        let path = request["path"].as_str().unwrap();
        eventually("the probe succeeds", || {
            http::send(node.ops(), "GET", path, &[], "").status == 200
        });
    }
    assert!(node.passes("login", "203.0.113.7", 5), "it has the limits of the catalog");

    let drain = given.iter().find(|(name, _)| *name == "TOLLGATE_DRAIN_DELAY").unwrap().1;
    let drain: u64 = drain.trim_end_matches('s').parse().unwrap();
    // The slowest requests in flight have 30 s.
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > drain + 30, "{pod}");
}

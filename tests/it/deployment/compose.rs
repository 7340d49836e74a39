//! docker-compose.yml: its files exist, its ports are those of this machine, and it has no secret.
//! `deployment::balancer` runs its nodes and its balancer.

use std::fs;

use serde_json::Value;

use crate::support::repository;

fn document(path: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(repository(path)).unwrap()).unwrap()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[test]
fn the_files_that_it_mounts_exist_and_its_ports_are_on_loopback() {
    let compose = document("docker-compose.yml");
    let services = compose["services"].as_object().unwrap();
    assert!(services.len() > 6, "{services:?}");
    for (name, service) in services {
        for mount in strings(&service["volumes"]) {
            let (from, _) = mount.split_once(':').unwrap();
            let is_ours = from.starts_with("./");
            assert!(!is_ours || repository(from).exists(), "{name} mounts {from}");
        }
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} is reachable at {port}");
        }
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let secret =
                ["TOKEN", "PASSWORD", "SECRET_"].iter().any(|word| variable.contains(word));
            let value = value.as_str().unwrap();
            assert!(
                !secret || value.starts_with("${"),
                "{name} has the same {variable} everywhere"
            );
        }
    }
}

#[test]
fn grafana_and_prometheus_name_services_that_it_has() {
    let compose = document("docker-compose.yml");
    let is_service = |address: &str| {
        let host = address.trim_start_matches("http://").split(':').next().unwrap();
        assert!(compose["services"][host].is_object(), "{address} is no service");
    };
    let sources = document("deploy/grafana/datasources/prometheus.yml");
    is_service(sources["datasources"][0]["url"].as_str().unwrap());
    let prometheus = document("deploy/prometheus.yml");
    for job in prometheus["scrape_configs"].as_array().unwrap() {
        job["static_configs"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|it| strings(&it["targets"]))
            .for_each(is_service);
    }
}

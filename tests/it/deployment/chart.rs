//! The values of the Helm chart and the settings of the program are the same. `.ci/helm` renders it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::repository;

/// Settings that the chart does not offer: a pod has no store and no folder of its own, the admin API
/// has the certificate of the other listener, and the authorities of webhooks are the public ones.
const NOT_OFFERED: &[&str] = &[
    "admin_tls_cert",
    "admin_tls_client_ca",
    "admin_tls_key",
    "data_dir",
    "max_memory_rows",
    "record",
    "record_kept_files",
    "record_max_bytes",
    "record_requests",
    "webhook_ca",
];

#[test]
fn the_chart_offers_every_setting_once() {
    let defaults = fs::read_to_string(repository("src/settings/default.toml")).unwrap();
    let key = |line: &str| Some(line.split_once(" = ")?.0.to_owned());
    let settings: BTreeSet<String> =
        defaults.lines().filter(|line| !line.starts_with('#')).filter_map(key).collect();
    let chart = repository("deploy/helm/tollgate");
    let schema = fs::read_to_string(chart.join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let values = |of: &str| {
        let values = schema["properties"][of]["properties"].as_object().unwrap();
        values.keys().cloned().collect::<Vec<_>>()
    };
    let pod = fs::read_to_string(chart.join("templates/deployment.yaml")).unwrap();
    let own = pod.lines().filter_map(|line| line.trim().strip_prefix("- name: TOLLGATE_"));
    let own = own.filter(|name| !name.contains('{')).map(str::to_ascii_lowercase);
    let mut offered: Vec<String> = NOT_OFFERED.iter().copied().map(str::to_owned).collect();
    offered.extend(values("settings").into_iter().chain(values("secrets")).chain(own));
    let once: BTreeSet<String> = offered.iter().cloned().collect();
    assert_eq!(once.len(), offered.len(), "a setting is offered twice: {offered:?}");
    let differing: Vec<_> = once.symmetric_difference(&settings).collect();
    let remedy = "a new setting belongs into values.schema.json of the chart, or into NOT_OFFERED";
    assert!(differing.is_empty(), "{differing:?}: {remedy}");
}

//! The dashboard of deploy/grafana: its queries, and what each panel says. `grafana` evaluates the
//! queries.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::repository;

fn dashboard() -> Value {
    let text = fs::read_to_string(repository("deploy/grafana/tollgate.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The title and the query of each target of each panel, with values for Grafana's variables.
pub fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$__rate_interval", "1m").replace("$plan", ".*");
            assert!(!query.contains('$'), "{title}: {query}");
            queries.push((title.to_owned(), query));
        }
    }
    queries
}

#[test]
fn every_metric_of_the_dashboard_is_one_of_a_node_and_each_panel_says_what_it_shows() {
    let dashboard = dashboard();
    let docs = fs::read_to_string(repository("docs/production.md")).unwrap();
    for (title, query) in queries() {
        let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let names: BTreeSet<&str> = words.filter(|word| word.starts_with("tollgate_")).collect();
        assert!(!names.is_empty(), "{title}: {query}");
        for name in names {
            let suffix = ["_bucket", "_sum", "_count"].iter().find_map(|it| name.strip_suffix(it));
            let name = suffix.unwrap_or(name);
            assert!(docs.contains(&format!("`{name}`")), "{title}: {name} is not documented");
        }
    }
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|it| it["type"] != "row") {
        assert!(panel["description"].as_str().is_some_and(|it| it.len() > 10), "{panel}");
        assert_eq!(panel["datasource"]["uid"], "prometheus", "the provisioned one: {panel}");
    }
    let provider =
        fs::read_to_string(repository("deploy/grafana/dashboards/tollgate.yml")).unwrap();
    let compose = fs::read_to_string(repository("docker-compose.yml")).unwrap();
    let folder = provider.split("path: ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(compose.contains(&format!("tollgate.json:{folder}/tollgate.json:ro")), "{folder}");
}

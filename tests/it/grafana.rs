//! The dashboard of deploy/grafana: Prometheus evaluates each of its queries over a real run with
//! every part of the service that it shows, and none is empty.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;
use std::process::{Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::deployment::dashboard::queries;
use crate::support::http;
use crate::support::node::Node;
use crate::support::process::Process;
use crate::support::redis::RedisServer;
use crate::support::{eventually, free_port};

const CATALOG: &str = "version: 1
apis: [{ id: inference, stages: [{ name: prod, consistency: leased, throttle: { rate: 5000/s, burst: 10000 } }] }]
plans:
  - id: free
    throttle: { rate: 1/s, burst: 5 }
    limits:
      - { name: tpd, unit: total_tokens, quota: { limit: 1000000, period: day } }
  - { id: fast, consistency: leased, throttle: { rate: 5000/s, burst: 10000 } }
  - { id: small, limits: [{ name: tpd, unit: total_tokens, quota: { limit: 100, period: month } }] }
keys:
  - { id: alice, value: alice-key, plans: [free] }
  - { id: bob, value: bob-key, plans: [fast] }
  - { id: carol, value: carol-key, plans: [small] }
";

/// Traffic of every kind.
fn send_traffic(node: &Node) {
    for _ in 0..8 {
        node.check(json!({"api_key": "alice-key"}));
        let stage = json!({"api_key": "bob-key", "api": "inference", "stage": "prod"});
        for _ in 0..20 {
            node.check(stage.clone());
        }
    }
    let cost = json!({"total_tokens": 10});
    let opened = node.check(json!({"api_key": "alice-key", "cost": {"requests": 0, "total_tokens": 10}, "reservation": {}}));
    if let Some(handle) = opened.json()["reservation"]["handle"].as_str() {
        let settled = json!({"handle": handle, "actual": {"total_tokens": 25}});
        node.send("POST", "/reservations/settle", &[], &settled.to_string());
    }
    node.check(json!({"api_key": "carol-key", "cost": cost, "after_the_fact": true}));
}

fn evaluate(address: &str, query: &str) -> Vec<f64> {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("query={}", utf8_percent_encode(query, NON_ALPHANUMERIC));
    let answer = http::send(address, "POST", "/api/v1/query", &form, &body);
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    let answer = answer.json();
    let samples = answer["data"]["result"].as_array().unwrap().iter();
    let value = |sample: &Value| sample["value"][1].as_str().unwrap().parse::<f64>().unwrap();
    samples.map(value).filter(|value| value.is_finite()).collect()
}

#[test]
fn every_query_of_the_dashboard_has_a_result_in_a_real_run() {
    let redis = RedisServer::start();
    let node = Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("prometheus.yml");
    let scrape = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: tollgate\n    static_configs: [{{ targets: [\"{}\"] }}]\n",
        node.address()
    );
    fs::write(&config, scrape).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut prometheus = Command::new("prometheus");
    prometheus.arg(format!("--config.file={}", config.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
    prometheus.arg(format!("--web.listen-address={address}"));
    let _prometheus = Process::spawn(prometheus.stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("Prometheus is ready", || {
        http::try_send(&address, "GET", "/-/ready", &[], "").is_some_and(|it| it.status == 200)
    });
    let queries = queries();
    assert!(queries.len() > 25, "{queries:?}");
    let mut empty: Vec<_> = queries.iter().collect();
    eventually("no query is empty", || {
        send_traffic(&node);
        empty.retain(|(_, query)| evaluate(&address, query).is_empty());
        empty.is_empty()
    });
    let leased = evaluate(&address, r#"sum(tollgate_decided_by_total{decided_by="lease"})"#);
    assert!(leased[0] > 0.0, "leases are shown: {leased:?}");
}

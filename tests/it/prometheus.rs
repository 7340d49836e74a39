//! promtool accepts the metrics, and the shipped configuration and alerts.
//! Needs programs besides Rust, so `make fast` skips it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::operate::text;
use crate::support::node::Node;
use crate::support::redis::RedisServer;
use crate::support::repository;

#[test]
fn metrics_pass_promtool_and_cover_what_operators_need() {
    let redis = RedisServer::start();
    let node = Node::start(&["--store", &redis.url(), "--check-deadline", "5s"]);
    for _ in 0..8 {
        node.check(json!({"api_key": "demo-key"}));
    }
    let metrics = node.get("/metrics").body;
    let mut promtool = Command::new("promtool");
    let mut child = promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(node.metric("tollgate_decisions_total", r#"outcome="allowed""#), 5.0);
    assert_eq!(
        node.metric(
            "tollgate_decisions_total",
            r#"limit="free/throttle",outcome="refused",plan="free""#
        ),
        3.0
    );
    assert_eq!(node.metric("tollgate_check_duration_seconds_count", ""), 8.0);
    assert!(node.metric("tollgate_tasks", "") >= 1.0, "the connection of the request itself");
    assert!(metrics.contains(r#"tollgate_check_duration_seconds_bucket{le="0.00005"}"#));
    for name in [
        "store_duration_seconds_count",
        "store_errors_total",
        "breaker_open",
        "catalog_reloads_total",
        "build_info",
        "checks_in_flight",
    ] {
        assert!(metrics.contains(&format!("tollgate_{name}")), "{name}");
    }
}

#[test]
fn prometheus_accepts_the_shipped_configuration_and_alerts() {
    for (what, file) in [("config", "deploy/prometheus.yml"), ("rules", "deploy/alerts.yml")] {
        let output =
            Command::new("promtool").args(["check", what]).arg(repository(file)).output().unwrap();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }
}

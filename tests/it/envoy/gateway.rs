//! A real Envoy in front of Tollgate, with the configurations of `deploy/gateways/envoy`.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;

use rustix::process::Signal;

use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::{self, Response};
use crate::support::node::Node;
use crate::support::redis::RedisServer;
use crate::support::repository;

/// A node with the shipped limits. The bucket does not refill while a test runs.
fn node(flags: &[&str]) -> (tempfile::TempDir, Node) {
    let folder = tempfile::tempdir().unwrap();
    let shipped = fs::read_to_string(repository("deploy/gateways/envoy/ratelimit.yaml")).unwrap();
    let slow =
        shipped.replace("unit: minute, requests_per_unit: 60", "unit: day, requests_per_unit: 1");
    assert_ne!(slow, shipped);
    fs::write(folder.path().join("ratelimit.yaml"), slow).unwrap();
    let path = folder.path().display().to_string();
    let own = ["--envoy-config", &path, "--listen-grpc", "127.0.0.1:0", "--drain-delay", "0s"];
    let node = Node::start(&[&own, flags].concat());
    (folder, node)
}

fn ask(gateway: &Gateway, path: &str, key: &str) -> Response {
    http::send(gateway.address(), "POST", path, &[("x-api-key", key)], "")
}

const LIMITED: &str = "/v1/chat/completions";

#[test]
fn envoy_allows_and_refuses_as_tollgate_decides() {
    let (_folder, node) = node(&[]);
    let gateway = Gateway::start("envoy", node.grpc());
    let ready = || ask(&gateway, "/free", "first").status == 200;
    eventually("Envoy has found Tollgate", ready);
    for left in ["1", "0"] {
        let passed = ask(&gateway, LIMITED, "demo");
        assert_eq!(
            (passed.status, passed.header("x-ratelimit-remaining")),
            (200, Some(left)),
            "{passed:?}"
        );
    }
    let refused = ask(&gateway, LIMITED, "demo");
    assert_eq!(refused.status, 429, "{refused:?}");
    let after = refused.header("retry-after").and_then(|after| after.parse::<u64>().ok());
    assert!(after.is_some_and(|after| (80_000..=86_400).contains(&after)), "{refused:?}");
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"), "{refused:?}");
    assert!(refused.header("x-ratelimit-limit").unwrap().starts_with("1, "), "{refused:?}");
    for spelling in ["//v1/chat/completions", "/v1/./chat/completions", "/x/../v1/chat/completions"]
    {
        assert_ne!(ask(&gateway, spelling, "demo").status, 200, "{spelling}");
    }
    assert_eq!(ask(&gateway, LIMITED, "other").status, 200, "another key's budget");
    let daily = ask(&gateway, "/free", "demo");
    assert_eq!(
        daily.header("x-ratelimit-remaining"),
        Some("997"),
        "a refusal costs nothing: {daily:?}"
    );
}

#[test]
fn two_envoys_share_one_budget() {
    let redis = RedisServer::start();
    let url = redis.url();
    let flags = ["--store", &*url, "--check-deadline", "5s"];
    let nodes = [node(&flags), node(&flags)];
    let gateways = nodes.each_ref().map(|(_, node)| Gateway::start("envoy", node.grpc()));
    for gateway in &gateways {
        eventually("Envoy has found Tollgate", || ask(gateway, "/free", "first").status == 200);
    }
    let statuses: Vec<u16> =
        (0..6).map(|n| ask(&gateways[n % 2], LIMITED, "demo").status).collect();
    assert_eq!(statuses, [200, 200, 429, 429, 429, 429]);
}

#[test]
fn envoy_follows_its_configuration_while_tollgate_is_down_or_hangs() {
    for (open, expected) in [(false, 503), (true, 200)] {
        let (_folder, node) = node(&[]);
        let start = if open { Gateway::start_fail_open } else { Gateway::start };
        let gateway = start("envoy", node.grpc());
        eventually("Envoy has found Tollgate", || {
            ask(&gateway, LIMITED, "probe").header("x-ratelimit-limit").is_some()
        });
        node.signal(Signal::STOP);
        assert_eq!(ask(&gateway, "/free", "demo").status, expected, "it hangs");
        node.signal(Signal::CONT);
        eventually("Tollgate responds again", || {
            ask(&gateway, "/free", "demo").header("x-ratelimit-limit").is_some()
        });
        assert_eq!(node.stop(), Some(0));
        assert_eq!(ask(&gateway, "/free", "demo").status, expected, "it is gone");
    }
}

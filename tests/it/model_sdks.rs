//! The SDKs of OpenAI and Anthropic behind a gateway: they wait as long as a refusal says, and not
//! for an hour.
//! Needs programs besides Rust, so `make fast` skips it.

use std::process::Command;

use crate::support::gateway::Gateway;
use crate::support::node::Node;
use crate::support::repository;

/// Runs the SDKs against nginx with its shipped configuration, under a burst of 1 at this rate.
fn sdks_are_refused(rate: &str, wait: &str) {
    let catalog = format!(
        "version: 1\n\
         apis: [ {{ id: inference, stages: [ {{ name: prod }} ] }} ]\n\
         plans: [ {{ id: free, api_stages: [ {{ api: inference, stage: prod }} ], throttle: {{ rate: {rate}, burst: 1 }} }} ]\n\
         keys: [ {{ id: demo, value: demo-key, plans: [free] }} ]"
    );
    let node = Node::with_catalog(&catalog, &["--forwarded-headers", "x-original"]);
    let gateway = Gateway::start("nginx", node.address());
    let first = crate::support::http::send(
        gateway.address(),
        "POST",
        "/v1/chat/completions",
        &[("x-api-key", "demo-key")],
        "{}",
    );
    assert_eq!(first.status, 200, "{first:?}");
    // An SDK that obeyed the long wait would hang here.
    let output = Command::new("timeout")
        .arg("120")
        .arg(repository("target/python/bin/python"))
        .arg(repository("tests/it/model_sdks/refused.py"))
        .args([wait, gateway.address()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn an_sdk_retries_once_after_a_short_wait_and_is_admitted() {
    sdks_are_refused("30/min", "short");
}

#[test]
fn an_sdk_gives_up_at_once_if_the_wait_is_long() {
    sdks_are_refused("1/h", "long");
}

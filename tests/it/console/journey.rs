//! The console in a real browser: an operator does everything with it, by mouse and by keyboard.
//! Needs programs besides Rust, so `make fast` skips it.

use std::process::Command;

use crate::control::{TOKEN, node};
use crate::support::repository;

/// Names that would be HTML if the page took them for it.
const CATALOG: &str = r#"
version: 1
plans: [{ id: basic, throttle: { rate: 1/h, burst: 2 } }]
policies: [{ name: login, key_type: ip, throttle: { rate: 1/h, burst: 2 } }]
keys: [{ id: filed, name: "<img src=x onerror=alert(1)>", value: the-value-of-filed, plans: [basic] }]
"#;

/// Runs one part of `journey.py` against a node.
fn browse(part: &str) {
    browse_with(part, &[]);
}

/// Runs one part of `journey.py` against a node with these flags.
fn browse_with(part: &str, flags: &[&str]) {
    let node = node(Some(CATALOG), &[&["--trusted-peers", "127.0.0.1/32"], flags].concat());
    let output = Command::new("timeout")
        .arg("240")
        .arg(repository("target/python/bin/python"))
        .arg(repository("tests/it/console/journey.py"))
        .args([part, node.admin(), node.address(), TOKEN, "the-token-for-reading"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{}", node.log());
    assert!(!node.log().contains(TOKEN), "{}", node.log());
}

#[test]
fn a_node_is_operated_by_the_console_alone() {
    browse("operate");
}

#[test]
fn a_plan_is_changed_after_a_look_at_who_of_the_recorded_checks_would_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("record");
    browse_with("preview", &["--record", record.to_str().unwrap()]);
}

#[test]
fn a_session_that_only_reads_sees_everything_and_changes_nothing() {
    browse("read");
}

#[test]
fn what_was_typed_is_kept_when_the_session_ends() {
    browse("expire");
}

#[test]
fn names_with_html_in_them_are_shown_as_they_are() {
    browse("html");
}

#[test]
fn the_keyboard_reaches_everything_and_400_pixels_are_enough() {
    browse("keyboard");
}

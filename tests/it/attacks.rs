//! Attacks of every kind, each for about a second beside a client that behaves: no server ends or
//! panics, no response is an undocumented 5xx, no limit admits too much, no secret is shown, and no
//! request of the honest client is lost. `make attack` runs the ten minutes, which are measured.
//! Needs programs besides Rust, so `make fast` skips it.

use std::process::Command;

use crate::support::repository;

#[test]
fn no_attack_ends_a_node_or_passes_a_limit_or_costs_another_client_a_request() {
    let output = Command::new("python3")
        .arg(repository("tests/endurance/attack.py"))
        .arg("--short")
        .env("TOLLGATE", env!("CARGO_BIN_EXE_tollgate"))
        .output()
        .unwrap();
    let text = [output.stderr, output.stdout].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

//! Nothing grows while both stores are under load, and every response is right: the hour of
//! `make soak` in some seconds, with fewer keys. Growth that takes longer is for the hour.
//! Needs programs besides Rust, so `make fast` skips it.

use std::process::Command;

use crate::support::repository;

#[test]
fn nodes_stay_level_and_right_through_edits_reloads_and_restarts() {
    let output = Command::new("python3")
        .arg(repository("tests/endurance/soak.py"))
        .envs([("SOAK_SECONDS", "16"), ("SOAK_KEYS", "5000"), ("SOAK_RATE", "30")])
        .env("TOLLGATE", env!("CARGO_BIN_EXE_tollgate"))
        .output()
        .unwrap();
    let text = [output.stderr, output.stdout].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

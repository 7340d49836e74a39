//! The steps of deploy/Dockerfile, without a container engine and without the compilation.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::repository;

/// The instructions of the Dockerfile, each on one line, with its arguments.
fn instructions() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository("deploy/Dockerfile")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let split = |line: &str| line.split_once(' ').map(|(name, rest)| (name.into(), rest.into()));
    joined.lines().filter_map(split).collect()
}

fn run(command: &str, folder: &Path) {
    let mut shell = Command::new("sh");
    let output = shell.args(["-ec", command]).current_dir(folder).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}");
}

#[test]
fn its_steps_leave_sources_that_cargo_accepts_and_builds_again() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path();
    // Old, as in a checkout: cargo would take the program of the empty sources for up to date.
    let is_empty = |file: &str| fs::read_to_string(into.join(file)).unwrap().len() < 20;
    let mut accepted = Vec::new();
    for (name, rest) in instructions() {
        match &*name {
            "COPY" if !rest.contains("--from") => {
                let (from, to) = rest.rsplit_once(' ').unwrap();
                let flags = if to.ends_with('/') { "-a" } else { "-aT" };
                run(&format!("mkdir -p {}", if to.ends_with('/') { to } else { "." }), into);
                for from in from.split(' ').map(repository) {
                    run(&format!("cp {flags} {} {to}", from.display()), into);
                }
            }
            "RUN" if rest.contains("cargo build") => {
                let (before, _) = rest.split_once("cargo build").unwrap();
                run(before.trim_end().trim_end_matches(';'), into);
                let mut cargo = Command::new(env!("CARGO"));
                cargo.args([
                    "fetch",
                    "--offline",
                    "--locked",
                    "--target",
                    "x86_64-unknown-linux-gnu",
                ]);
                let output = cargo.current_dir(into).output().unwrap();
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{errors}");
                accepted.push(is_empty("src/main.rs"));
            }
            _ => {}
        }
    }
    assert_eq!(accepted, [true, false], "first the dependencies, then the program");
    let time = |file: &Path| fs::metadata(file).unwrap().modified().unwrap();
    let stub = time(&into.join("benches/check.rs"));
    for file in ["build.rs", "src/main.rs", "src/app/mod.rs", "src/lib.rs", "core/src/lib.rs"] {
        assert!(time(&into.join(file)) >= stub, "{file} is older than the empty sources");
    }
}

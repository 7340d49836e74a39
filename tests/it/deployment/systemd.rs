//! The unit of systemd, as docs/how-to/systemd.md installs it. systemd itself does not run it here.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::node::Node;
use crate::support::repository;

/// Runs the `install` commands of the guide, with `root` in place of `/`.
fn install_as_the_guide_says(root: &Path) {
    let guide = fs::read_to_string(repository("docs/how-to/systemd.md")).unwrap();
    let install = guide.lines().filter_map(|line| line.strip_prefix("sudo install "));
    let commands: Vec<String> = install
        .map(|arguments| {
            arguments.replace("target/release/tollgate", env!("CARGO_BIN_EXE_tollgate"))
        })
        .map(|arguments| {
            let (from, to) = arguments.rsplit_once(" /").unwrap();
            format!("install {from} {}/{to}\n", root.display())
        })
        .collect();
    assert!(commands.len() >= 4, "{commands:?}");
    let script = format!("set -e\n{}", commands.concat());
    let status = Command::new("sh").args(["-c", &script]).current_dir(repository("")).status();
    assert!(status.unwrap().success());
}

fn analyze(arguments: &[&str], unit: &Path) -> Output {
    Command::new("systemd-analyze").args(arguments).arg(unit).output().unwrap()
}

/// The variables of an environment file; `of` says which of its lines count.
fn variables<'a>(
    file: &'a str,
    of: impl Fn(&'a str) -> Option<&'a str>,
) -> Vec<(&'a str, &'a str)> {
    file.lines().filter_map(of).filter_map(|line| line.split_once('=')).collect()
}

#[test]
fn the_unit_that_the_guide_installs_is_valid_hardened_and_its_settings_start_a_node() {
    let root = tempfile::tempdir().unwrap();
    install_as_the_guide_says(root.path());
    let unit = root.path().join("etc/systemd/system/tollgate.service");
    let text = fs::read_to_string(&unit).unwrap();
    let here = format!("{}/usr/local/", root.path().display());
    fs::write(&unit, text.replace("/usr/local/", &here)).unwrap();

    let verified = analyze(&["verify", "--man=no", "--recursive-errors=yes"], &unit);
    let complaints = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && complaints.is_empty(), "{complaints}");
    // The exposure is from 0 (none) to 100.
    let flags = ["security", "--offline=yes", "--no-pager", "--threshold=20"];
    let exposure = analyze(&flags, &unit);
    assert!(exposure.status.success(), "{}", String::from_utf8_lossy(&exposure.stdout));

    let settings = fs::read_to_string(root.path().join("etc/tollgate/tollgate.env")).unwrap();
    let in_use = variables(&settings, |line| (!line.starts_with('#')).then_some(line));
    let in_root = |value: &str| value.replace("/etc/", &format!("{}/etc/", root.path().display()));
    let in_use: Vec<_> = in_use.into_iter().map(|(name, value)| (name, in_root(value))).collect();
    let in_use: Vec<_> = in_use.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let node = Node::launch(None, &[], &in_use);
    assert!(node.passes("login", "203.0.113.7", 5), "it has the limits of the catalog");
    let known = fs::read_to_string(repository("src/settings/default.toml")).unwrap();
    let offered = variables(&settings, |line| line.strip_prefix("#TOLLGATE_"));
    for (name, _) in offered {
        let setting = format!("\n{} = ", name.to_ascii_lowercase());
        assert!(known.contains(&setting), "TOLLGATE_{name} is not a setting");
    }
}

//! The house: dependencies point one way, and files stay small and say what they are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::repository;

const ORDER: [&str; 21] = [
    "time",
    "object",
    "watch",
    "digest",
    "failure_policy",
    "settings",
    "limit",
    "algorithm",
    "catalog",
    "telemetry",
    "tls",
    "transport",
    "store",
    "control",
    "webhook",
    "engine",
    "http",
    "grpc",
    "admin",
    "app",
    "commands",
];

/// The rooms inside `control`, in their order.
const CONTROL_ORDER: [&str; 3] = ["model", "serving", "editing"];

fn files(under: &str, extension: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|other| other == extension) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&repository(under), extension, &mut found);
    assert!(!found.is_empty(), "nothing under {under}");
    found
}

#[test]
fn modules_use_those_before_them_and_never_those_after() {
    let root = repository("src");
    for file in files("src", "rs") {
        let own = file.strip_prefix(&root).unwrap().components().next().unwrap();
        let own = own.as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let Some(place) = ORDER.iter().position(|module| *module == own) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        for later in &ORDER[place + 1..] {
            assert!(
                !text.contains(&format!("crate::{later}::")),
                "{} uses {later}",
                file.display()
            );
        }
    }
}

#[test]
fn rooms_of_control_use_those_before_them_and_never_those_after() {
    for (place, room) in CONTROL_ORDER.iter().enumerate() {
        for file in files(&format!("src/control/{room}"), "rs") {
            let text = fs::read_to_string(&file).unwrap();
            for later in &CONTROL_ORDER[place + 1..] {
                let uses = text.contains(&format!("control::{later}::"));
                assert!(!uses, "{} uses {later}", file.display());
            }
            // A path through the exports of `control` itself would hide the room.
            assert!(!text.contains("control::{"), "{} does not name the room", file.display());
            assert!(!text.contains("super::super"), "{} does not name the room", file.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    let of = [("src", "rs", "//!"), ("tests", "rs", "//!"), ("lua", "lua", "--")];
    for (folder, extension, header) in of {
        for file in files(folder, extension) {
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.starts_with(header), "{} does not say what it is", file.display());
            let lines = text.lines().count();
            assert!(lines <= 400, "{} has {lines} lines", file.display());
        }
    }
}

/// Words in quotes that are paths from `folder`: to which entries of the repository they lead.
fn quoted_paths(file: &Path, found: &mut BTreeSet<String>) {
    let root = repository("");
    let text = fs::read_to_string(file).unwrap();
    for word in text.split('"').skip(1).step_by(2).filter(|word| !word.contains(['\n', '{'])) {
        let path = file.parent().unwrap().join(word);
        let Ok(path) = path.canonicalize() else { continue };
        if let Ok(inside) = path.strip_prefix(root.canonicalize().unwrap())
            && let Some(first) = inside.components().next()
        {
            found.insert(first.as_os_str().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn the_image_is_built_from_all_that_the_build_reads() {
    let mut read: BTreeSet<String> =
        ["Cargo.toml", "Cargo.lock", "build.rs", "src"].map(str::to_owned).into();
    quoted_paths(&repository("build.rs"), &mut read);
    for file in files("src", "rs") {
        quoted_paths(&file, &mut read);
    }
    let dockerfile = fs::read_to_string(repository("deploy/Dockerfile")).unwrap();
    let copied = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    let copied = copied.filter(|line| !line.starts_with("--from"));
    let copied: BTreeSet<&str> =
        copied.flat_map(str::split_whitespace).filter(|word| *word != "./").collect();
    let ignore = fs::read_to_string(repository(".dockerignore")).unwrap();
    let sent: BTreeSet<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let read: BTreeSet<&str> = read.iter().map(String::as_str).collect();
    assert_eq!((copied, sent), (read.clone(), read));
}

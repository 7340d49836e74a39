//! The house: dependencies point one way, and files stay small and say what they are.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::repository;

const ORDER: [&str; 16] = [
    "time",
    "watch",
    "limit",
    "algorithm",
    "catalog",
    "settings",
    "telemetry",
    "tls",
    "store",
    "control",
    "webhook",
    "engine",
    "http",
    "grpc",
    "admin",
    "app",
];

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
fn every_file_says_what_it_is_and_fits_in_a_head() {
    let of = [("src", "rs", "//!"), ("tests", "rs", "//!"), ("lua", "lua", "--")];
    for (folder, extension, header) in of {
        for file in files(folder, extension) {
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.starts_with(header), "{} does not say what it is", file.display());
            let lines = text.lines().count();
            assert!(lines <= 300, "{} has {lines} lines", file.display());
        }
    }
}

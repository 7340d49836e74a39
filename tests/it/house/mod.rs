//! The structure of the repository: the order of modules, the size and header of files, and the
//! lists that have to name all files of a kind. Behaviour is not tested here.

mod fast;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::repository;

/// The modules of the library and of `tollgate-core`; each uses those before it and never those after
/// it.
const ORDER: &[&str] = &[
    "time",
    "object",
    "watch",
    "syntax",
    "digest",
    "failure_policy",
    "settings",
    "algorithm",
    "limit",
    "judge",
    "packed",
    "inference",
    "catalog",
    "reservation",
    "telemetry",
    "tls",
    "transport",
    "store",
    "control",
    "engine",
    "webhook",
    "http",
    "grpc",
    "admin",
    "app",
    "commands",
    "fuzzing",
];

/// The sources of the libraries.
const SOURCES: [&str; 2] = ["core/src", "src"];

/// The modules inside `control`, in their order.
const CONTROL_ORDER: &[&str] = &["model", "translate", "serving", "editing"];

/// All files below a folder of the repository with this extension.
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
fn modules_use_those_before_them_and_never_those_after_them() {
    for file in SOURCES.iter().flat_map(|folder| files(folder, "rs")) {
        let roots = SOURCES.map(repository);
        let own = roots.iter().find_map(|root| file.strip_prefix(root).ok()).unwrap();
        let own = own.components().next().unwrap();
        let own = own.as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let Some(place) = ORDER.iter().position(|module| *module == own) else {
            assert!(["lib", "main"].contains(&own), "{own} has no place in the order");
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        // A list of modules would hide them from this test.
        assert!(!text.contains("crate::{"), "{} does not name each module", file.display());
        for later in &ORDER[place + 1..] {
            let path = format!("crate::{later}");
            let mut uses = text.split(&path).skip(1);
            let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            let uses = uses.any(|rest| !rest.as_bytes().first().is_some_and(is_word));
            assert!(!uses, "{} uses {later}", file.display());
        }
    }
}

#[test]
fn modules_of_control_use_those_before_them_and_never_those_after_them() {
    for (place, module) in CONTROL_ORDER.iter().enumerate() {
        for file in files(&format!("src/control/{module}"), "rs") {
            let text = fs::read_to_string(&file).unwrap();
            for later in &CONTROL_ORDER[place + 1..] {
                let uses = text.contains(&format!("control::{later}::"));
                assert!(!uses, "{} uses {later}", file.display());
            }
            // A path through the exports of `control` itself would hide the module.
            assert!(!text.contains("control::{"), "{} does not name the module", file.display());
            assert!(!text.contains("super::super"), "{} does not name the module", file.display());
        }
    }
}

#[test]
fn every_file_begins_with_its_purpose_and_has_at_most_400_lines() {
    let folders = [
        ("core/src", "rs", "//!"),
        ("redis-module/src", "rs", "//!"),
        ("src", "rs", "//!"),
        ("tests", "rs", "//!"),
        ("lua", "lua", "--"),
    ];
    for (folder, extension, header) in folders {
        for file in files(folder, extension) {
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.starts_with(header), "{} does not begin with its purpose", file.display());
            let lines = text.lines().count();
            assert!(lines <= 400, "{} has {lines} lines", file.display());
        }
    }
}

/// The seam: a new algorithm must not have to touch the files that use one.
#[test]
fn no_file_outside_the_seam_names_an_algorithm() {
    let seam = repository("core/src/algorithm/mod.rs");
    let text = fs::read_to_string(&seam).unwrap();
    let (_, rest) = text.split_once("pub enum Algorithm {").unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let variants: Vec<&str> = body
        .lines()
        .filter_map(|line| line.trim().split_once('('))
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(char::is_alphanumeric))
        .collect();
    assert!(variants.len() >= 2, "{variants:?}");
    for file in ["core/src", "src", "tests"].into_iter().flat_map(|folder| files(folder, "rs")) {
        let text = fs::read_to_string(&file).unwrap();
        for variant in &variants {
            let names = text.contains(&format!("Algorithm::{variant}"));
            assert!(!names || file == seam, "{} names {variant}", file.display());
        }
    }
}

/// Adds the top-level entries of the repository that quoted words in `file` lead to, as paths
/// relative to it.
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
fn the_image_is_built_from_all_files_that_the_build_reads() {
    let mut read: BTreeSet<String> =
        ["Cargo.toml", "Cargo.lock", "build.rs", "core", "redis-module", "src"]
            .map(str::to_owned)
            .into();
    quoted_paths(&repository("build.rs"), &mut read);
    for file in SOURCES.iter().flat_map(|folder| files(folder, "rs")) {
        quoted_paths(&file, &mut read);
    }
    let dockerfile = fs::read_to_string(repository("deploy/Dockerfile")).unwrap();
    let copied = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    let copied = copied.filter(|line| !line.starts_with("--from"));
    let words = copied.flat_map(str::split_whitespace).filter(|word| *word != "./");
    let copied: BTreeSet<&str> = words.filter_map(|word| word.split('/').next()).collect();
    let ignore = fs::read_to_string(repository(".dockerignore")).unwrap();
    let sent: BTreeSet<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let read: BTreeSet<&str> = read.iter().map(String::as_str).collect();
    assert_eq!((copied, sent), (read.clone(), read));
}

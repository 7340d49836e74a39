//! The documents: links, paths, examples and metrics in them are those of the repository and the
//! program.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::guide::{Step, shows, steps};
use crate::support::node::Node;
use crate::support::repository;

fn document(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap()
}

/// The paths of all files of the repository that match `pattern`.
fn tracked(pattern: &str) -> Vec<String> {
    let listed =
        Command::new("git").args(["ls-files", pattern]).current_dir(repository("")).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    listed.lines().map(str::to_owned).collect()
}

/// The first YAML block after the heading "Your own limits".
fn catalog_of_the_readme() -> String {
    let readme = document("README.md");
    let section = readme.split_once("## Your own limits").unwrap().1;
    section.split_once("```yaml\n").unwrap().1.split_once("```").unwrap().0.to_owned()
}

/// The targets of all links.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = text.split("\n```").step_by(2).flat_map(str::lines);
    let headings = prose.filter_map(|line| line.strip_prefix('#')?.split_once(' '));
    let kept = |letter: char| match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        _ => letter.is_alphanumeric().then_some(letter),
    };
    headings.map(|(_, text)| text.to_lowercase().chars().filter_map(kept).collect()).collect()
}

#[test]
fn every_link_between_documents_leads_to_a_file_and_a_heading_of_it() {
    let all = tracked("*.md");
    assert!(all.len() > 10, "{all:?}");
    for path in all {
        let text = document(&path);
        let folder = repository(&path).parent().unwrap().to_owned();
        for target in links(&text).filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let place = if file.is_empty() { repository(&path) } else { folder.join(file) };
            assert!(place.exists(), "{path}: {target}");
            let is_heading = || anchors(&fs::read_to_string(&place).unwrap()).contains(anchor);
            assert!(anchor.is_empty() || is_heading(), "{path}: {target}");
        }
    }
}

#[test]
fn the_readme_is_a_page_and_a_half() {
    let words = document("README.md").split_whitespace().count();
    assert!(words <= 1_300, "{words} words; docs has room for more");
}

#[test]
fn every_page_is_in_the_summary_of_the_site_once() {
    let summary = document("docs/SUMMARY.md");
    let mut listed: Vec<_> = links(&summary).map(|page| format!("docs/{page}")).collect();
    listed.sort();
    let mut pages = tracked("docs/*.md");
    pages.retain(|page| page != "docs/SUMMARY.md");
    pages.sort();
    assert_eq!(listed, pages);
}

/// Words in backticks that look like paths of the repository, or of `src` as ARCHITECTURE.md writes
/// them.
fn paths_in(text: &str, folders: &BTreeSet<String>) -> Vec<String> {
    // Blocks of code between ``` hold commands, not paths.
    let prose = text.split("```").step_by(2);
    let words = prose.flat_map(|part| part.split('`').skip(1).step_by(2));
    let is_path = |word: &&str| {
        let first = word.split('/').next().unwrap();
        // `NAME` stands for a name.
        let is_plain = !word.contains("NAME")
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        is_plain && word.contains('/') && folders.contains(first)
    };
    words.filter(is_path).map(str::to_owned).collect()
}

#[test]
fn every_path_in_a_document_leads_to_a_file() {
    let all = tracked("*");
    let folder = |path: &String| path.split_once('/').map(|(folder, _)| folder.to_owned());
    let inside = |path: &String| {
        path.strip_prefix("core/").unwrap_or(path).strip_prefix("src/").map(str::to_owned)
    };
    let mut folders: BTreeSet<String> = all.iter().filter_map(folder).collect();
    folders.extend(all.iter().filter_map(inside).filter_map(|path| folder(&path)));
    let mut found = 0;
    for document in tracked("*.md") {
        for path in paths_in(&self::document(&document), &folders) {
            let places = ["", "src/", "core/src/"].map(|root| repository(&format!("{root}{path}")));
            assert!(places.iter().any(|place| place.exists()), "{document}: {path}");
            found += 1;
        }
    }
    assert!(found > 20, "only {found} paths in all documents");
}

/// The names of all functions and modules in the sources and tests.
fn names_in_the_code() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in tracked("*.rs") {
        names.extend(path.trim_end_matches(".rs").split('/').map(str::to_owned));
        for line in document(&path).lines() {
            let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
            let declared = words.windows(2).filter(|pair| ["fn", "mod"].contains(&pair[0]));
            names.extend(declared.map(|pair| pair[1].to_owned()));
        }
    }
    names
}

#[test]
fn every_test_that_the_guide_names_exists() {
    let names = names_in_the_code();
    let guide = document("docs/testing.md");
    let rows = guide.lines().filter(|line| line.starts_with("| "));
    let columns = rows.filter_map(|row| row.rsplit('|').nth(1));
    let words = columns.flat_map(|column| column.split('`').skip(1).step_by(2));
    let is_name =
        |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || "_:*".contains(c));
    for part in words.filter(is_name).flat_map(|word| word.split("::")) {
        let exists = match part.strip_suffix('*') {
            Some(start) => names.iter().any(|name| name.starts_with(start)),
            None => names.contains(part),
        };
        assert!(exists, "docs/testing.md: {part}");
    }
}

#[test]
fn the_guide_lists_every_metric_and_no_other() {
    let node = Node::start(&[]);
    node.check(json!({"api_key": "demo-key", "cost": 100, "after_the_fact": true}));
    let reserved = node.check(json!({"policy": "login", "key": "a", "reservation": {}})).json();
    let settled = json!({"handle": reserved["reservation"]["handle"]}).to_string();
    assert_eq!(node.send("POST", "/reservations/settle", &[], &settled).status, 200);
    let exposed = node.get("/metrics").body;
    let exposed: BTreeSet<&str> = exposed
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let guide = document("docs/production.md");
    let rows = guide.lines().filter(|line| line.starts_with("| `tollgate_"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split(", "));
    let listed: BTreeSet<&str> = names.map(|name| name.trim().trim_matches('`')).collect();
    let missing: Vec<_> = exposed.difference(&listed).collect();
    assert!(missing.is_empty(), "not in the guide: {missing:?}");
    // The metrics of webhooks exist only with a receiver, that of slots with a concurrency limit.
    let is_conditional = |name: &str| name.contains("webhook") || name.contains("slots");
    let more: Vec<_> = listed.difference(&exposed).filter(|name| !is_conditional(name)).collect();
    assert!(more.is_empty(), "in the guide only: {more:?}");
}

#[test]
fn the_readmes_catalog_serves_as_the_readme_says_and_fits_a_cluster() {
    let catalog = catalog_of_the_readme();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.yaml");
    fs::write(&file, &catalog).unwrap();
    for store in ["memory", "redis+cluster://127.0.0.1:1"] {
        let mut validate = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        let output = validate.args(["validate", "--store", store]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{store}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let node = Node::with_catalog(&catalog, &[]);
    let check = json!({
        "api_key": "alice", "api": "inference", "stage": "prod", "method": "POST",
        "path": "/v1/chat/completions", "cost": {"requests": 1, "total_tokens": 350},
    });
    let names: Vec<_> = node.check(check).json()["limits"].as_array().unwrap().clone();
    let names: Vec<_> = names.iter().map(|limit| limit["name"].as_str().unwrap()).collect();
    let expected = [
        "free/throttle",
        "free/quota",
        "free/tpm",
        "stage:inference/prod/POST /v1/chat/completions/throttle",
        "stage:inference/prod/throttle",
        "policy:team/quota",
    ];
    assert_eq!(names, expected);
    assert!(node.passes("login", "ip:203.0.113.7", 5));
}

#[test]
fn other_output_than_a_guide_shows_is_a_fault() {
    assert!(shows("{\"a\":1, \"b\":22}\n", "{\"a\":…,\n \"b\":22}"));
    assert!(shows("PONG\n200 200 429 ", "…200 429…"));
    assert!(!shows("200 200 429 ", "200 429"), "more at the start");
    assert!(!shows("{\"b\":22} more", "{…22}"), "more at the end");
    assert!(shows("{{1} 2} 3}", "{…2}…}"));
    assert!(!shows("200 200 ", "…200 429…"));
    let [Step::Run { shown, .. }, Step::Save { name, .. }] = &steps(
        "x\n```sh\ncheck   # 200\nserve &   # in the background\n```\n\n```text\nOK\n```\n```yaml\n# a.yaml\n```\n",
    )[..] else {
        panic!("two steps");
    };
    assert_eq!((shown.len(), name.as_str()), (2, "a.yaml"));
}

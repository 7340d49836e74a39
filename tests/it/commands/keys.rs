//! The life of a key by `tollgate keys`: changed, rotated, moved between plans, imported.

use std::fs;

use serde_json::{Value, json};

use super::{node, plan, run, shown, table};
use crate::support::node::Node;

fn key(node: &Node, name: &str) -> (String, Value) {
    let made = shown(node, &format!("keys create {name} --plan basic"));
    (made["id"].as_str().unwrap().to_owned(), made["value"].clone())
}

#[track_caller]
fn fails(node: &Node, words: &str, code: i32, reasons: &[&str]) {
    let (exit, out, stderr) = run(node, words);
    assert_eq!((exit, &*out), (Some(code), ""), "{words}: {stderr}");
    for reason in reasons {
        assert!(stderr.contains(reason), "{words}: {stderr}");
    }
}

#[test]
fn a_key_is_found_by_its_name_and_a_name_of_two_keys_is_an_error_with_both_ids() {
    let node = node();
    plan(&node, "basic");
    let (first, _) = key(&node, "acme");
    assert_eq!(shown(&node, "keys show acme")["id"], *first);
    assert!(table(&node, "keys list --plan Basic").contains(&first), "a plan by its name");
    let (second, _) = key(&node, "acme");
    fails(&node, "keys disable acme", 2, &["names 2 API keys", &first, &second]);
    assert_eq!(shown(&node, &format!("keys show {second}"))["enabled"], true);
    // A name that another one begins with.
    key(&node, "acme-2");
    assert_eq!(shown(&node, "keys show acme-2")["name"], "acme-2");
    fails(&node, "keys show acm", 2, &["404", "`tollgate keys list`"]);
}

#[test]
fn a_check_is_explained_for_a_key_by_its_name() {
    let node = node();
    plan(&node, "basic");
    let (id, _) = key(&node, "acme");
    for named in ["acme", &id] {
        let explained = shown(&node, &format!("explain --key-id {named}"));
        assert_eq!(explained["key"]["id"], *id, "{explained}");
    }
    let (code, out, _) = run(&node, "explain --key-id nobody");
    assert!(code == Some(1) && out.contains("403"), "{out}");
}

#[test]
fn a_key_gets_its_own_sizes_a_customer_and_an_expiry() {
    let node = node();
    plan(&node, "basic");
    let (id, value) = key(&node, "acme");
    table(&node, "keys update acme --rate 5 --burst 9 --quota 7 --customer-id c-1");
    let limit = |name: &str| {
        let answer = node.check(json!({"api_key": value, "cost": 0})).json();
        let limits = answer["limits"].as_array().unwrap().clone();
        limits.into_iter().find(|limit| limit["name"] == *name).unwrap()["limit"].clone()
    };
    assert_eq!((limit("basic/throttle"), limit("basic/quota")), (json!(9), json!(7)));
    let words = "keys update acme --no-overrides --quota 8 --expires-at 2030-01-31T00:00:00Z";
    let updated = shown(&node, words);
    assert_eq!(updated["overrides"], json!({"basic": {"quota": {"limit": 8}}}));
    assert_eq!((&updated["customerId"], &updated["id"]), (&json!("c-1"), &json!(id)));
    assert_eq!(shown(&node, "keys update acme --expires-at never")["expiresAt"], json!(null));
    assert_eq!(shown(&node, "keys update acme --name zeta --enabled false")["enabled"], false);
    fails(&node, "keys update zeta --plan basic", 2, &["`tollgate keys attach`"]);
    fails(&node, "keys update zeta", 2, &["--name", "Usage:"]);
    fails(&node, "keys update zeta --rate fast", 2, &["as in 10/s or 30/min"]);
    shown(&node, "plans create Other");
    table(&node, "keys detach zeta basic");
    fails(&node, "keys update zeta --quota 5", 2, &["on no plan", "keys attach"]);
}

#[test]
fn a_rotated_key_has_both_values_for_the_overlap() {
    let node = node();
    plan(&node, "basic");
    let (_, old) = key(&node, "acme");
    let status = |value: &Value| node.check(json!({"api_key": value})).status;
    let new = shown(&node, "keys rotate acme --overlap 1h")["value"].clone();
    assert_eq!((status(&old), status(&new)), (200, 200));
    let newest = shown(&node, "keys rotate acme --overlap 0s")["value"].clone();
    assert_eq!((status(&old), status(&new), status(&newest)), (403, 403, 200));
    fails(&node, "keys rotate acme", 2, &["--overlap"]);
    fails(&node, "keys rotate acme --overlap soon", 2, &["as in 24h"]);
}

#[test]
fn a_key_moves_from_one_plan_to_another() {
    let node = node();
    plan(&node, "basic");
    shown(&node, "plans create Gold --quota 50000/month");
    let (_, value) = key(&node, "acme");
    fails(&node, "keys attach acme basic", 2, &["409"]);
    table(&node, "keys detach acme basic");
    assert_eq!(node.check(json!({"api_key": value})).status, 403);
    let plans = table(&node, "keys attach acme Gold");
    assert_eq!(plans.lines().nth(1).unwrap().split_whitespace().next(), Some("gold"), "{plans}");
    assert_eq!(node.check(json!({"api_key": value})).json()["key"]["plan"], "gold");
    fails(&node, "keys detach acme basic", 2, &["404", "is not on the plan basic"]);
}

#[test]
fn a_key_is_shown_with_its_plans_usage_and_what_is_left() {
    let node = node();
    plan(&node, "basic");
    let (_, value) = key(&node, "acme");
    table(&node, "keys update acme --quota 500 --burst 100");
    assert_eq!(node.check(json!({"api_key": value, "cost": 20})).status, 200);
    let text = table(&node, "keys show acme");
    let row = text.lines().find(|line| line.starts_with("basic")).unwrap();
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        row,
        ["basic", "requests", "20", "20", "500/day,", "Europe/Berlin", "480"],
        "{text}"
    );
    assert!(text.contains("override") && text.contains("burstLimit"), "{text}");
    let usage = &shown(&node, "keys show acme")["usage"][0];
    assert_eq!((&usage["today"], &usage["left"]), (&json!(20), &json!(480)), "{usage}");
}

#[test]
fn a_large_file_is_imported_in_parts_and_again_without_a_change() {
    let node = node();
    plan(&node, "basic");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.csv");
    let line = |number| format!("key-{number:04},{number:020},basic\n");
    let mut file = "Name,Key,UsagePlanIds\n".to_owned();
    file.extend((0..2_200).map(line));
    fs::write(&path, &file).unwrap();
    let words = format!("keys import {}", path.display());
    let (code, _, stderr) = run(&node, &words);
    assert_eq!(code, Some(0), "{stderr}");
    // No terminal, so there is a plain line for each part.
    let lines: Vec<&str> = stderr.lines().collect();
    let expected =
        ["1000 of 2200 keys", "2000 of 2200 keys", "2200 keys imported, 0 lines skipped"];
    assert_eq!(lines, expected);
    assert_eq!(node.check(json!({"api_key": format!("{:020}", 2_199)})).status, 200);
    // Line 2,202 is the first bad one.
    fs::write(&path, file + "bad,short\nlast,a-value-of-20-characters,nowhere\n").unwrap();
    let (code, _, stderr) = run(&node, &words);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("skipped: line 2202: ") && stderr.contains("line 2203: "), "{stderr}");
    assert!(stderr.ends_with("2200 keys imported, 2 lines skipped\n"), "{stderr}");
    assert_eq!(shown(&node, "keys list").as_array().unwrap().len(), 2_200);
}

#[test]
fn a_file_that_is_no_list_of_keys_is_refused_before_anything_is_imported() {
    let node = node();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.csv");
    let words = format!("keys import {}", path.display());
    fails(&node, &words, 2, &["keys.csv", "No such file"]);
    let value = "a-value-of-20-characters";
    for (file, reason) in [
        (format!("Name\n{value}\n"), "there is no column `Key`"),
        (format!("Name,Key\na,{value}\nb,{value}\n"), "line 3 has the same key as line 2"),
    ] {
        fs::write(&path, file).unwrap();
        fails(&node, &words, 2, &[reason]);
    }
    assert_eq!(shown(&node, "keys list"), json!([]));
}

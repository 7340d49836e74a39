//! `tollgate audit` against a running node.

use serde_json::json;

use super::{node, plan, run, shown, table};

#[test]
fn changes_are_listed_by_path_number_and_time() {
    let node = node();
    plan(&node, "basic");
    for number in 0..60 {
        table(&node, &format!("keys create key-{number}"));
    }
    let listed = table(&node, "audit");
    let rows: Vec<&str> = listed.lines().skip(1).collect();
    assert_eq!(rows.len(), 50);
    assert!(rows.iter().all(|row| row.contains("admin_token")), "{listed}");
    assert_eq!(table(&node, "audit --path /usageplans").lines().count(), 2);
    assert_eq!(shown(&node, "audit --since 1h").as_array().unwrap().len(), 61);
    assert_eq!(shown(&node, "audit --until 2020-01-01T00:00:00Z"), json!([]));
    let newest = shown(&node, "audit --limit 2");
    let [second, first] = [&newest[0]["at"], &newest[1]["at"]].map(|at| at.as_str().unwrap());
    // As times: `05.12Z` is before `05.125Z`, and not as texts.
    let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    assert!(time(second) > time(first), "the newest comes first");
    let until = shown(&node, &format!("audit --limit 1 --until {first}"));
    assert_eq!(until[0]["id"], newest[1]["id"], "a limit counts what is selected");
    let since = shown(&node, &format!("audit --since {second}"));
    assert_eq!(since.as_array().unwrap().len(), 1);
    let (code, _, stderr) = run(&node, "audit --since yesterday");
    assert!(code == Some(2) && stderr.contains("as in 24h"), "{stderr}");
}

//! `tollgate usage` against a running node.

use serde_json::json;

use super::{TOKEN, node, plan, run, shown, table};
use crate::support::node::Node;

const PLANS: &str = "
version: 1
plans:
  - id: basic
    quota: { limit: 1000, period: month, time_zone: Pacific/Kiritimati }
    limits: [{ name: tpm, unit: total_tokens, quota: { limit: 500, period: day } }]
  - { id: open }
keys:
  - { id: a, value: key-a, plans: [basic] }
  - { id: b, value: key-b, plans: [basic] }
  - { id: c, value: key-c, plans: [open] }
";

pub fn with_plans(store: &[&str]) -> Node {
    let access = [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", TOKEN)];
    Node::launch(Some(PLANS), store, &access)
}

pub fn today(zone: &str) -> jiff::civil::Date {
    jiff::Timestamp::now().in_tz(zone).unwrap().date()
}

/// The last line of a table: its key, day, used and remaining.
#[track_caller]
pub fn last(table: &str) -> Vec<&str> {
    table.lines().last().unwrap().split_whitespace().collect()
}

#[test]
fn a_csv_file_has_every_day_of_every_key() {
    let node = with_plans(&[]);
    assert_eq!(node.check(json!({"api_key": "key-b", "cost": 2})).status, 200);
    let day = today("Pacific/Kiritimati");
    let file = table(&node, "usage basic --csv");
    assert!(file.starts_with("key,plan,unit,day,used,remaining\n"), "{file}");
    assert!(file.ends_with(&format!("b,basic,requests,{day},2,998\n")), "{file}");
    assert_eq!(file.lines().count(), 1 + 2 * usize::from(day.day().unsigned_abs()));
}

#[test]
fn a_reservation_is_used_as_it_was_settled() {
    let node = with_plans(&[]);
    let cost = json!({"total_tokens": 300});
    let reserved = node.check(json!({"api_key": "key-b", "cost": cost, "reservation": {}})).json();
    let used = || {
        let file = table(&node, "usage basic --unit total_tokens --csv");
        file.lines().last().unwrap().split(',').nth(4).unwrap().to_owned()
    };
    assert_eq!(used(), "300", "estimated");
    let handle = &reserved["reservation"]["handle"];
    let body = json!({"handle": handle, "actual": {"total_tokens": 420}}).to_string();
    assert_eq!(node.send("POST", "/reservations/settle", &[], &body).status, 200);
    assert_eq!(used(), "420");
}

#[test]
fn usage_is_corrected_and_then_shown() {
    let node = with_plans(&[]);
    let body = json!({"api_key": "key-a", "cost": {"requests": 10, "total_tokens": 100}});
    assert_eq!(node.check(body).status, 200);
    for (words, row) in [
        ("usage refund basic a 4", ["6", "994"]),
        ("usage grant basic a 500", ["6", "1494"]),
        ("usage set-remaining basic a 7", ["6", "7"]),
        ("usage refund basic a 30 --unit total_tokens", ["70", "430"]),
        ("usage reset basic a", ["6", "1000"]),
    ] {
        assert_eq!(last(&table(&node, words))[2..], row, "{words}");
    }
    let usage = shown(&node, "usage set-remaining basic a 1");
    assert_eq!(usage["values"]["a"].as_array().unwrap().last(), Some(&json!([6, 1])));
}

#[test]
fn keys_of_many_pages_are_shown_in_one_table() {
    let keys = (0..501)
        .map(|number| format!("  - {{ id: k{number:03}, value: v-{number}, plans: [open] }}\n"));
    let access = [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", TOKEN)];
    let node = Node::launch(Some(&format!("{PLANS}{}", keys.collect::<String>())), &[], &access);
    assert_eq!(shown(&node, "usage open")["values"].as_object().unwrap().len(), 502);
}

#[test]
fn an_invalid_query_or_correction_is_an_error() {
    let node = node();
    plan(&node, "basic");
    for (words, word) in [
        ("usage nowhere", "404 Not Found"),
        ("usage basic --unit bananas", "the plan counts requests"),
        ("usage basic --unit bananas --csv", "the plan counts requests"),
        ("usage basic --from yesterday --to 2026-01-01", "startDate"),
        ("usage basic --from 2026-01-01", "--to"),
        ("usage basic --csv --json", "cannot be used with"),
        ("usage grant basic nowhere 5", "404 Not Found"),
        ("usage grant basic nowhere", "<AMOUNT>"),
        ("usage", "<PLAN>"),
    ] {
        let (code, out, stderr) = run(&node, words);
        assert_eq!((code, &*out), (Some(2), ""), "{words}: {stderr}");
        assert!(stderr.contains(word), "{words}: {stderr}");
    }
}

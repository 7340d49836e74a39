//! Usage of keys by day: over changes of a plan, as CSV, and invalid queries.

use jiff::ToSpan as _;
use serde_json::{Value, json};

use super::{TOKEN, as_bearer, call, node};
use crate::support::eventually;
use crate::support::node::Node;

pub const DAY: i64 = 86_400 * 1_000_000;

pub const PLANS: &str = r"
version: 1
plans:
  - id: daily
    quota: { limit: 400, period: day }
    limits: [ { name: tpm, unit: total_tokens, throttle: { rate: 1000000/s, burst: 1000000 } } ]
  - { id: monthly, quota: { limit: 700, period: month } }
  - { id: open, throttle: { rate: 100000/s, burst: 100000 } }
  - { id: ahead, consistency: leased, throttle: { rate: 2000/s, burst: 2000 } }
keys:
  - { id: a, value: key-a, plans: [daily] }
  - { id: b, value: key-b, plans: [monthly] }
  - { id: c, value: key-c, plans: [open] }
  - { id: d, value: key-d, plans: [ahead] }
";

/// The days of a key from `start` on, as pairs of units used and remaining.
pub fn days(
    node: &Node,
    plan: &str,
    key: &str,
    unit: &str,
    start: jiff::civil::Date,
) -> Vec<[i64; 2]> {
    let end = start.saturating_add(89.days());
    let query = format!("keyId={key}&unit={unit}&startDate={start}&endDate={end}");
    let page = call(node, "GET", &format!("/usageplans/{plan}/usage?{query}"), Value::Null);
    serde_json::from_value(page["values"][key].clone()).unwrap()
}

/// The date of a clock that is ahead of the machine's by so many microseconds.
pub fn today(ahead: i64) -> jiff::civil::Date {
    let now = jiff::Timestamp::now().checked_add(ahead.microseconds()).unwrap();
    jiff::tz::TimeZone::UTC.to_datetime(now).date()
}

#[test]
fn a_changed_plan_loses_no_usage_and_other_plans_are_separate() {
    let node = node(Some(PLANS), &[]);
    let plan = |limits: &str, more: &str| {
        format!(
            "version: 1\nplans: [{{ id: p, {limits} }}, {{ id: q, quota: {{ limit: 9, period: day }} }}]\nkeys: [{{ id: k, value: key-k, plans: [{more}] }}]"
        )
    };
    let versions = [
        plan("quota: { limit: 100, period: day }", "p"),
        plan("quota: { limit: 100, period: month }", "p"),
        plan("throttle: { rate: 100/s, burst: 100 }", "p"),
        plan("quota: { limit: 50, period: day }", "p"),
    ];
    for (number, version) in versions.iter().enumerate() {
        let before = node.metric("tollgate_catalog_reloads_total", "ok");
        std::fs::write(node.catalog_file(), version).unwrap();
        eventually("it is in use", || node.metric("tollgate_catalog_reloads_total", "ok") > before);
        let answer = node.check(json!({"api_key": "key-k", "cost": 1 + number}));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(days(&node, "p", "k", "requests", today(0)), [[1 + 2 + 3 + 4, 50 - 1 - 4]]);
    let before = node.metric("tollgate_catalog_reloads_total", "ok");
    std::fs::write(node.catalog_file(), plan("quota: { limit: 50, period: day }", "q")).unwrap();
    eventually("it is in use", || node.metric("tollgate_catalog_reloads_total", "ok") > before);
    assert_eq!(node.check(json!({"api_key": "key-k", "cost": 2})).status, 200);
    assert_eq!(days(&node, "q", "k", "requests", today(0)), [[2, 7]]);
    assert_eq!(days(&node, "p", "k", "requests", today(0))[0][0], 10, "as it was");
}

#[test]
fn a_csv_file_has_the_usage_of_every_key_of_the_plan() {
    let mut catalog = PLANS.to_owned();
    for number in 0..1_203 {
        catalog += &format!("  - {{ id: k{number:04}, value: key-{number}, plans: [open] }}\n");
    }
    let node = node(Some(&catalog), &[]);
    assert_eq!(node.check(json!({"api_key": "key-700", "cost": 7})).status, 200);
    assert_eq!(node.check(json!({"api_key": "key-b", "cost": 2})).status, 200);
    let today = today(0);
    let dates = format!("startDate={today}&endDate={today}");
    let path = format!("/usageplans/open/usage?{dates}&format=csv");
    let file = as_bearer(&node, TOKEN, "GET", &path, "");
    assert_eq!((file.status, file.header("content-type")), (200, Some("text/csv")));
    // The lengths of the chunks are lines of their own.
    let lines: Vec<&str> = file.body.lines().filter(|line| line.contains(',')).collect();
    assert_eq!(lines.len(), 1 + 1_204);
    assert_eq!(lines[0], "key,plan,unit,day,used,remaining");
    assert!(lines.contains(&&*format!("k0700,open,requests,{today},7,")));
    let path = format!("/usageplans/monthly/usage?{dates}");
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", &*bearer), ("accept", "text/csv")];
    let file = crate::support::http::send(node.admin(), "GET", &path, &headers, "");
    assert!(file.body.contains(&format!("b,monthly,requests,{today},2,698\n")), "{file:?}");
}

#[test]
fn invalid_queries_are_refused_by_name() {
    let node = node(Some(PLANS), &[]);
    let cases = [
        ("unit=bananas&startDate=2026-01-01&endDate=2026-01-02", "the plan counts"),
        ("endDate=2026-01-02", "startDate"),
        ("startDate=2026-01-01", "endDate"),
        ("unit=bananas", "the plan counts"),
        ("startDate=2026-1-1&endDate=2026-01-02", "startDate"),
        ("startDate=2026-02-30&endDate=2026-03-02", "startDate"),
        ("startDate=2026-01-02&endDate=2026-01-01", "before"),
        ("startDate=2026-01-01&endDate=2026-04-01", "90 days"),
        ("startDate=2026-01-01&endDate=2026-01-02&limit=0", "limit"),
    ];
    for (query, why) in cases {
        let path = format!("/usageplans/daily/usage?{query}");
        let answer = as_bearer(&node, TOKEN, "GET", &path, "");
        assert!(answer.status == 400 && answer.body.contains(why), "{query}: {answer:?}");
    }
}

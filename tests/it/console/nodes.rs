//! `GET /nodes`: the rates of a node by plan and outcome, its latencies and its state.

use serde_json::{Value, json};

use crate::control::{TOKEN, as_bearer, call, node};
use crate::support::eventually;

pub(super) const CATALOG: &str = "
version: 1
plans: [{ id: basic, throttle: { rate: 1/h, burst: 5 } }]
keys: [{ id: alice, value: the-value-of-alice, plans: [basic] }]
policies: [{ name: login, throttle: { rate: 1/h, burst: 2 } }]
";

pub(super) fn outcomes(report: &Value, plan: &str) -> Value {
    let plans = report["minute"]["plans"].as_array().unwrap();
    plans.iter().find(|row| row["plan"] == plan).map_or(Value::Null, |row| row["outcomes"].clone())
}

#[test]
fn a_report_has_the_checks_of_the_last_minute_by_plan_and_outcome_and_their_durations() {
    let node = node(Some(CATALOG), &[]);
    for _ in 0..7 {
        node.check(json!({"api_key": "the-value-of-alice"}));
    }
    node.check(json!({"policy": "login", "key": "a"}));
    let mut report = Value::Null;
    eventually("the checks are in a slot", || {
        report = call(&node, "GET", "/nodes", json!(null))["item"][0].clone();
        outcomes(&report, "policy:login") == json!({"allowed": 1})
    });
    assert_eq!(outcomes(&report, "basic"), json!({"allowed": 5, "refused": 2}));
    assert_eq!(report["workers"], 2);
    assert_eq!((&report["store"]["kind"], &report["webhooks"]), (&json!("memory"), &json!(null)));
    let minute = &report["minute"];
    let durations: Vec<u64> = serde_json::from_value(minute["checkDurations"].clone()).unwrap();
    assert_eq!(durations.iter().sum::<u64>(), 8);
    assert_eq!(durations.len(), minute["bounds"].as_array().unwrap().len() + 1);
    let history: Vec<[u64; 3]> = serde_json::from_value(report["history"].clone()).unwrap();
    let sum = |part: usize| history.iter().map(|slot| slot[part]).sum::<u64>();
    assert_eq!([sum(0), sum(1), sum(2)], [6, 2, 0]);
    assert_eq!(report["historyEnd"].as_u64().unwrap() % 5, 0);
}

#[test]
fn reading_is_enough_for_the_report_and_it_holds_no_text_of_a_client() {
    let node = node(Some(CATALOG), &[]);
    node.check(json!({"policy": "login", "key": "carol@example.com"}));
    let mut body = String::new();
    eventually("the check is in a slot", || {
        body = as_bearer(&node, "the-token-for-reading", "GET", "/nodes", "").body;
        body.contains("policy:login")
    });
    assert!(!body.contains("carol") && !body.contains(TOKEN), "{body}");
    assert_eq!(as_bearer(&node, TOKEN, "GET", "/nodes?n=1", "").status, 400);
}

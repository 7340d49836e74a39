//! `POST /explain` and `tollgate explain`: why a check would be admitted or refused, by limit, with
//! the place where each is declared.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{as_bearer, call, node};
use crate::support::eventually;
use crate::support::node::Node;

/// The lines are counted in the tests.
const CATALOG: &str = "version: 1
apis:
  - id: inference
    stages:
      - name: prod
        throttle: { rate: 1/h, burst: 50 }
        methods:
          \"POST /v1/*\": { throttle: { rate: 1/h, burst: 40 } }
plans:
  - id: free
    throttle: { rate: 1/h, burst: 5 }
    limits:
      - { name: tpd, unit: total_tokens, quota: { limit: 100, period: month } }
    api_stages:
      - api: inference
        stage: prod
        methods:
          \"*\":
            throttle: { rate: 1/h, burst: 30 }
keys:
  - { id: plain, value: plain-key, plans: [free] }
  - { id: large, value: large-key, plans: [free], overrides: { free: { throttle: { burst: 9 } } } }
  - { id: off, value: off-key, plans: [free], enabled: false }
policies:
  - { name: login, throttle: { rate: 1/h, burst: 3 } }
";

fn request(key: &str) -> Value {
    json!({"key_id": key, "api": "inference", "stage": "prod", "method": "POST", "path": "/v1/chat?x=1"})
}

fn explain(node: &Node, check: &Value) -> Value {
    call(node, "POST", "/explain", check.clone())
}

#[track_caller]
fn limit<'e>(explained: &'e Value, name: &str) -> &'e Value {
    let limits = explained["limits"].as_array().unwrap();
    limits.iter().find(|limit| limit["name"] == name).unwrap_or_else(|| panic!("{explained}"))
}

#[test]
fn an_explanation_has_the_line_pattern_cost_and_use_of_each_limit_and_charges_nothing() {
    let node = node(Some(CATALOG), &[]);
    let file = node.catalog_file().display().to_string();
    for _ in 0..2 {
        assert_eq!(node.check(json!({"api_key": "plain-key"})).status, 200);
    }
    for _ in 0..3 {
        let explained = explain(&node, &request("plain"));
        assert_eq!((&explained["status"], &explained["allowed"]), (&json!(200), &json!(true)));
        let rows = explained["limits"].as_array().unwrap().iter();
        let rows: Vec<_> = rows
            .map(|row| {
                let members = ["name", "limit", "used", "cost", "remaining", "pattern"];
                let mut row_json: Vec<Value> = members.map(|name| row[name].clone()).into();
                row_json.push(row["source"]["line"].clone());
                assert_eq!(row["source"]["file"], *file, "{row}");
                json!(row_json)
            })
            .collect();
        let expected = json!([
            ["free/inference/prod/POST /v1/chat/throttle", 30, 0, 1, 29, "*", 19],
            ["free/throttle", 5, 2, 1, 2, null, 11],
            ["free/tpd", 100, 0, 0, 100, null, 13],
            ["stage:inference/prod/POST /v1/*/throttle", 40, 0, 1, 39, "POST /v1/*", 8],
            ["stage:inference/prod/throttle", 50, 0, 1, 49, null, 6],
        ]);
        assert_eq!(json!(rows), expected);
    }
    let mut costly = request("plain");
    costly["cost"] = json!({"requests": 4, "total_tokens": 101});
    let explained = explain(&node, &costly);
    assert_eq!((&explained["status"], &explained["violated"]), (&json!(422), &json!("free/tpd")));
    let never = limit(&explained, "free/tpd");
    assert_eq!((&never["fits"], &never["retry_after_ms"]), (&json!(false), &json!(null)));
    let later = limit(&explained, "free/throttle");
    let wait = later["retry_after_ms"].as_u64().unwrap();
    assert!(later["fits"] == false && (3_500_000..=3_600_000).contains(&wait), "{later}");
    assert_eq!(later["used"], 2);
}

#[test]
fn an_override_is_declared_in_its_key_and_a_disabled_key_is_explained() {
    let node = node(Some(CATALOG), &[]);
    let explained = explain(&node, &request("large"));
    let own = limit(&explained, "free/throttle");
    assert_eq!(
        (&own["limit"], &own["override"], &own["source"]["line"]),
        (&json!(9), &json!(true), &json!(22))
    );
    let shared = limit(&explained, "free/tpd");
    assert_eq!((&shared["override"], &shared["source"]["line"]), (&json!(false), &json!(13)));
    let off = explain(&node, &request("off"));
    assert_eq!((&off["status"], &off["detail"]), (&json!(403), &json!("the API key is disabled")));
    assert_eq!(off["limits"], json!([]));
}

#[test]
fn a_file_that_has_changed_has_no_lines_until_it_is_in_use() {
    let node = node(Some(CATALOG), &[]);
    let check = json!({"policy": "login", "key": "a", "cost": 4});
    let line = || limit(&explain(&node, &check), "policy:login/throttle")["source"]["line"].clone();
    assert_eq!(line(), 25);
    fs::write(node.catalog_file(), "version: 1\nplans: [").unwrap();
    assert_eq!(line(), json!(null), "the catalog in use is another");
    let longer = CATALOG.replace("keys:", "# more\nkeys:");
    fs::write(node.catalog_file(), longer).unwrap();
    node.signal(rustix::process::Signal::HUP);
    eventually("the file is in use", || line() == 26);
}

#[test]
fn what_the_admin_api_declares_has_the_path_of_its_resource() {
    let node = node(None, &[]);
    let (key, _, plan) = super::plan_and_key(&node, 2);
    let explained = explain(&node, &json!({"key_id": key}));
    let throttle = limit(&explained, &format!("{plan}/throttle"));
    assert_eq!(
        throttle["source"],
        json!({"resource": format!("/usageplans/{plan}")}),
        "{explained}"
    );
    let policy = node.get("/explain").status;
    assert_eq!(policy, 404, "the listener of checks says nothing about it");
}

#[test]
fn a_token_for_reading_is_enough_and_bad_input_names_its_member() {
    let node = node(Some(CATALOG), &[]);
    let check = request("plain").to_string();
    let reading = as_bearer(&node, "the-token-for-reading", "POST", "/explain", &check);
    assert_eq!(reading.status, 200, "{reading:?}");
    assert!(as_bearer(&node, "another-token-of-none", "POST", "/explain", &check).status >= 401);
    let bad = as_bearer(&node, super::TOKEN, "POST", "/explain", r#"{"key_id": 7}"#);
    assert_eq!(bad.status, 400);
    assert!(bad.body.contains("key_id"), "{bad:?}");
}

#[test]
fn the_command_prints_a_table_for_people_and_json_for_programs() {
    let node = node(Some(CATALOG), &[]);
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["explain", "--url", &format!("http://{}", node.admin())])
            .args(words)
            .env("TOLLGATE_ADMIN_TOKEN", "the-token-for-reading")
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, text) = run(&["--policy", "login", "--key", "ip:203.0.113.7", "--cost", "2"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((code, text.lines().next()), (Some(0), Some("200: allowed (decided by memory)")));
    assert_eq!(rows[1][..4], ["LIMIT", "UNIT", "SIZE", "USED"]);
    assert_eq!(rows[2][..7], ["policy:login/throttle", "requests", "3", "0", "2", "1", "now"]);
    assert!(rows[2].last().unwrap().ends_with("catalog.yaml:25"), "{text}");
    assert_eq!(run(&["--policy", "login", "--key", "a", "--cost", "4"]).0, Some(1));
    let (code, json) = run(&["--key-id", "plain", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["status"]), (Some(0), &json!(200)));
    assert_eq!(run(&["--policy", "none", "--key", "a"]).0, Some(1), "the check's own 400");
}

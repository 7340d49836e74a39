//! `tollgate what-if`: what it says of a record is what a node decides by the new catalog, at the
//! recorded times. Needs of the tests: a Redis whose clock is set.
//! Needs programs besides Rust, so `make fast` skips it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tollgate::time::Micros;

use crate::recording::what_if;
use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

/// The catalog of the record. Its limits are filled in by [`catalog`].
fn catalog(sizes: &str, keys: &str) -> String {
    format!(
        "version: 1
apis:
  - id: inference
    stages:
      - name: prod
        throttle: {{ rate: 2/s, burst: 40 }}
plans:
{sizes}
keys:
{keys}
policies:
  - {{ name: login, throttle: {{ rate: 3/min, burst: 2 }} }}
"
    )
}

const OLD_PLANS: &str = "  - { id: free, throttle: { rate: 1/s, burst: 5 }, quota: { limit: 30, period: day } }
  - { id: pro, throttle: { rate: 5/s, burst: 10 }, limits: [ { name: tpd, unit: total_tokens, quota: { limit: 4000, period: day } } ] }";
const OLD_KEYS: &str = "  - { id: alice, value: alice-key, plans: [free] }
  - { id: bob, value: bob-key, plans: [free] }
  - { id: carol, value: carol-key, plans: [pro] }
  - { id: gone, value: gone-key, plans: [pro] }";
/// Other sizes, a limit of a method and a wildcard, an override, another plan of a key.
const NEW_PLANS: &str = "  - id: free
    throttle: { rate: 1/s, burst: 3 }
    quota: { limit: 20, period: day }
    api_stages:
      - api: inference
        stage: prod
        methods:
          \"POST /v1/chat\": { throttle: { rate: 1/min, burst: 2 } }
  - { id: pro, throttle: { rate: 5/s, burst: 10 }, limits: [ { name: tpd, unit: total_tokens, quota: { limit: 3000, period: day } }, { name: tpm, unit: total_tokens, throttle: { rate: 600/min, burst: 900 } } ] }";
const NEW_KEYS: &str = "  - { id: alice, value: alice-key, plans: [free], overrides: { free: { throttle: { burst: 4 } } } }
  - { id: bob, value: bob-key, plans: [pro] }
  - { id: carol, value: carol-key, plans: [pro] }";

/// A request at a time, of the numbers that a generator draws.
struct Step {
    at: Micros,
    check: Value,
    /// The units with which its reservation is settled.
    actual: Option<u64>,
}

fn steps() -> Vec<Step> {
    let mut state = 7_u64;
    let mut draw = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    // Two hours before a midnight, to be past it at the end.
    let mut at = Micros::from_secs(1_774_656_000 + 22 * 3_600);
    let step = |number: u64| {
        at = at + Micros::new(if number.is_multiple_of(40) { 600_000_000 } else { draw(700_000) });
        let key =
            ["alice-key", "bob-key", "carol-key", "gone-key"][usize::try_from(draw(4)).unwrap()];
        let path = ["/v1/chat", "/v1/models"][usize::try_from(draw(2)).unwrap()];
        let on_stage = json!({"api_key": key, "api": "inference", "stage": "prod", "method": "POST", "path": path});
        let (check, actual) = match draw(8) {
            0 => (json!({"policy": "login", "key": format!("u{}", draw(3))}), None),
            1 => (json!({"api_key": key, "policy": "login", "key": "u9"}), None),
            2 => (json!({"api_key": "carol-key", "cost": {"total_tokens": draw(400)}}), None),
            3 => {
                let cost = json!({"total_tokens": 100 + draw(300)});
                let check = json!({"api_key": "carol-key", "cost": cost, "reservation": {}});
                (check, Some(draw(500)))
            }
            4 => {
                let cost = json!({"total_tokens": draw(200)});
                (json!({"api_key": "carol-key", "cost": cost, "after_the_fact": true}), None)
            }
            _ => (on_stage, None),
        };
        Step { at, check, actual }
    };
    (1..=600).map(step).collect()
}

type Refusals = BTreeMap<(String, String), u64>;

/// Sends the steps to a node with a catalog, and returns the refusals by key and limit. Settles
/// those reservations whose number is in `settles`, or all that are open, and returns their numbers.
fn run(catalog: &str, record: Option<&Path>, settles: Option<&[usize]>) -> (Refusals, Vec<usize>) {
    let redis = RedisServer::start_with_clock();
    let steps = steps();
    redis.set_clock(steps[0].at);
    let url = redis.url();
    let mut flags = vec!["--store", &url, "--check-deadline", "5s", "--denial-memo", "false"];
    flags.extend(["--drain-delay", "0s"]);
    if let Some(record) = record {
        flags.extend(["--record", record.to_str().unwrap()]);
    }
    let node = Node::with_catalog(catalog, &flags);
    let (mut refusals, mut settled) = (Refusals::new(), Vec::new());
    for (number, step) in steps.iter().enumerate() {
        redis.set_clock(step.at);
        let answer = node.check(step.check.clone());
        let body = answer.json();
        if step.check["api_key"] == "gone-key" {
            // In neither column: the new catalog does not have it.
        } else if answer.status == 429 || answer.status == 422 {
            let limit = body["violated"].as_str().unwrap().to_owned();
            let text = |member: &str| step.check[member].as_str().unwrap_or_default();
            let key = if limit.starts_with("policy:") {
                text("key")
            } else {
                text("api_key").trim_end_matches("-key")
            };
            *refusals.entry((limit, key.to_owned())).or_default() += 1;
        } else {
            assert!([200, 403].contains(&answer.status), "{answer:?} to {}", step.check);
        }
        let (Some(actual), Some(handle)) = (step.actual, body["reservation"]["handle"].as_str())
        else {
            continue;
        };
        if settles.is_none_or(|settles| settles.contains(&number)) {
            let request = json!({"handle": handle, "actual": {"total_tokens": actual}});
            assert_eq!(
                node.send("POST", "/reservations/settle", &[], &request.to_string()).status,
                200
            );
            settled.push(number);
        }
    }
    assert_eq!(node.stop(), Some(0));
    (refusals, settled)
}

#[test]
fn the_refusals_before_and_after_are_those_of_real_nodes_at_the_recorded_times() {
    let dir = tempfile::tempdir().unwrap();
    let (record, file) = (dir.path().join("record"), dir.path().join("new.yaml"));
    let (old, new) = (catalog(OLD_PLANS, OLD_KEYS), catalog(NEW_PLANS, NEW_KEYS));
    fs::write(&file, &new).unwrap();
    let (before, settled) = run(&old, Some(&record), None);
    let (after, _) = run(&new, None, Some(&settled));
    assert!(before.len() > 5 && after.len() > 5 && before != after, "{before:?} {after:?}");
    let (file, record) = (file.to_str().unwrap(), record.to_str().unwrap());
    let (code, out, _) = what_if(&["--catalog", file, "--json", record]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(1), "some are newly refused");
    let column = |name: &str| -> Refusals {
        let rows = report["item"].as_array().unwrap().iter();
        let row = |row: &Value| {
            let key = row["keyId"].as_str().or(row["key"].as_str()).unwrap().to_owned();
            ((row["limit"].as_str().unwrap().to_owned(), key), row[name].as_u64().unwrap())
        };
        rows.map(row).filter(|(_, count)| *count > 0).collect()
    };
    assert_eq!(column("after"), after);
    assert_eq!(column("before"), before);
    let gone = steps().iter().filter(|step| step.check["api_key"] == "gone-key").count();
    assert_eq!(report["notJudged"]["unknown_key"], json!({"count": gone, "examples": ["gone"]}));
    assert_eq!(report["checks"], json!(600 - gone));
    let (_, csv, summary) = what_if(&["--catalog", file, "--csv", record]);
    assert!(csv.starts_with("limit,key_id,key,before,after\n"), "{csv}");
    assert_eq!(csv.lines().count() - 1, report["item"].as_array().unwrap().len());
    assert!(summary.contains("not judged") && summary.contains("gone"), "{summary}");
    let (_, table, _) = what_if(&["--catalog", file, "-n", "2", record]);
    assert!(table.contains("LIMIT") && table.contains("rows more"), "{table}");
}

#[test]
fn by_its_own_catalog_a_record_is_refused_as_it_was_and_standard_input_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (record, file) = (dir.path().join("record"), dir.path().join("same.yaml"));
    let same = catalog(OLD_PLANS, OLD_KEYS);
    fs::write(&file, &same).unwrap();
    run(&same, Some(&record), None);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(["what-if", "--json", "-", "--catalog"]).arg(&file);
    let output = command.stdin(fs::File::open(&record).unwrap()).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    let changed = |row: &&Value| row["before"] != row["after"];
    assert_eq!(report["item"].as_array().unwrap().iter().find(changed), None);
    assert!(report["refusedBefore"].as_u64() > Some(50), "{report}");
    // A record that begins later shows the levels that it begins with.
    let text = fs::read_to_string(&record).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let later = dir.path().join("later");
    fs::write(&later, lines[200..].join("\n") + "\n").unwrap();
    let (_, out, _) =
        what_if(&["--json", "--catalog", file.to_str().unwrap(), later.to_str().unwrap()]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["newlyRefused"], &report["newlyAllowed"]),
        (&json!(0), &json!(0)),
        "{report}"
    );
}

#[test]
fn refusals_by_the_denial_memo_are_judged_too() {
    let (redis, dir) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let (record, file) = (dir.path().join("record"), dir.path().join("new.yaml"));
    let catalog = |burst: u32| {
        format!(
            "{{version: 1, policies: [{{name: few, throttle: {{rate: 1/d, burst: {burst}}}}}]}}"
        )
    };
    fs::write(&file, catalog(50)).unwrap();
    let flags = [
        "--store",
        &redis.url(),
        "--check-deadline",
        "5s",
        "--drain-delay",
        "0s",
        "--record",
        record.to_str().unwrap(),
    ];
    let node = Node::with_catalog(&catalog(1), &flags);
    let mut sent = 0;
    eventually("the memo refuses", || {
        node.passes("few", "a", 1);
        sent += 1;
        let answer = node.check(json!({"policy": "few", "key": "a"}));
        sent += 1;
        answer.json()["decided_by"] == "memo"
    });
    assert_eq!(node.stop(), Some(0));
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains(r#""decided_by":"memo""#), "{text}");
    assert!(tollgate::engine::replay(&text).unwrap() < sent, "a replay skips them");
    let (code, out, _) =
        what_if(&["--json", "--catalog", file.to_str().unwrap(), record.to_str().unwrap()]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(0));
    let row = json!([{"limit": "policy:few/throttle", "keyId": null, "key": "a", "before": sent - 1, "after": 0}]);
    assert_eq!((&report["checks"], &report["item"]), (&json!(sent), &row));
}

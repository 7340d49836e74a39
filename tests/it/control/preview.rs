//! `POST /usageplans/{id}/preview`: who of the node's recorded checks would be refused if the plan
//! were changed.

use serde_json::{Value, json};

use super::{as_bearer, call, node};
use crate::support::eventually;
use crate::support::node::Node;

/// A node that records, with a plan, and the ids of two keys on it.
fn recording_node(dir: &std::path::Path, flags: &[&str]) -> (Node, [String; 2]) {
    let record = dir.join("record");
    let record = ["--record", record.to_str().unwrap()];
    let node = node(Some("version: 1"), &[&record[..], flags].concat());
    let throttle = json!({"rateLimit": 0.001, "burstLimit": 5});
    call(
        &node,
        "POST",
        "/usageplans",
        json!({"name": "Basic", "throttle": throttle, "tags": {"_custom_id_": "basic"}}),
    );
    let ids = ["alice", "bob"].map(|name| {
        let key = call(&node, "POST", "/apikeys", json!({"name": name, "enabled": true}));
        let id = key["id"].as_str().unwrap().to_owned();
        call(&node, "POST", "/usageplans/basic/keys", json!({"keyId": id, "keyType": "API_KEY"}));
        id
    });
    (node, ids)
}

fn preview(node: &Node, token: &str, body: &Value) -> (u16, Value) {
    let path = "/usageplans/basic/preview";
    let answer = as_bearer(node, token, "POST", path, &body.to_string());
    (answer.status, answer.json())
}

fn burst(burst: &str) -> Value {
    json!({"patchOperations": [{"op": "replace", "path": "/throttle/burstLimit", "value": burst}]})
}

#[test]
fn a_preview_shows_by_key_and_limit_who_would_be_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (node, [alice, bob]) = recording_node(dir.path(), &[]);
    for key in [&alice; 7].into_iter().chain([&bob]) {
        let status = node.check(json!({"key_id": key})).status;
        assert!([200, 429].contains(&status));
    }
    let of = |size: &str| preview(&node, "the-token-for-reading", &burst(size));
    eventually("all checks are recorded", || of("5").1["checks"] == 8);
    let (status, report) = of("5");
    let row = |before: u64, after: u64| json!([{"limit": "basic/throttle", "keyId": alice, "key": null, "before": before, "after": after}]);
    assert_eq!((status, &report["item"]), (200, &row(2, 2)), "{report}");
    let (_, report) = of("1");
    assert_eq!(report["item"], row(2, 6), "{report}");
    let counts = ["refusedBefore", "refusedAfter", "newlyRefused", "newlyAllowed", "rows"];
    assert_eq!(counts.map(|name| report[name].as_u64().unwrap()), [2, 6, 4, 0, 1]);
    assert!(
        report["firstMs"].as_u64() <= report["lastMs"].as_u64() && report["notJudged"] == json!([])
    );
    let (_, report) = of("50");
    assert_eq!((&report["item"], &report["newlyAllowed"]), (&row(2, 0), &json!(2)));
    let plan = call(&node, "GET", "/usageplans/basic", json!({}));
    assert_eq!(plan["throttle"]["burstLimit"], 5, "nothing is changed");
    let invalid = json!({"patchOperations": [{"op": "replace", "path": "/throttle/burstLimit", "value": "0"}]});
    assert_eq!(preview(&node, super::TOKEN, &invalid).0, 400);
    let unknown = as_bearer(&node, super::TOKEN, "POST", "/usageplans/none/preview", "{}");
    assert_eq!(unknown.status, 404);
    call(&node, "DELETE", &format!("/apikeys/{bob}"), json!({}));
    let (_, report) = of("5");
    let reason = "the catalog has no such API key";
    let not_judged = json!([{"reason": reason, "checks": 1, "examples": [bob]}]);
    assert_eq!((&report["checks"], &report["notJudged"]), (&json!(7), &not_judged));
}

#[test]
fn a_node_without_a_record_says_how_to_start_it() {
    let dir = tempfile::tempdir().unwrap();
    let (private, _) = recording_node(dir.path(), &["--record-requests", "false"]);
    let (status, answer) = preview(&private, super::TOKEN, &burst("9"));
    assert!(
        status == 409 && answer["message"].as_str().unwrap().contains("--record-requests true")
    );
    drop(private);
    let plain = node(Some("version: 1"), &[]);
    call(&plain, "POST", "/usageplans", json!({"name": "Basic", "tags": {"_custom_id_": "basic"}}));
    let (status, answer) = preview(&plain, super::TOKEN, &json!({}));
    assert!(
        status == 409 && answer["message"].as_str().unwrap().contains("--record FILE"),
        "{answer}"
    );
}

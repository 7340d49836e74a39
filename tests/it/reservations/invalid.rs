//! Invalid requests about reservations: a 4xx that names the field, and nothing is charged.

use serde_json::{Value, json};

use super::{CATALOG, open, post, remaining};
use crate::support::node::Node;

#[test]
#[rustfmt::skip]
fn an_invalid_reservation_is_refused_with_the_field_at_fault() {
    let node = Node::with_catalog(CATALOG, &[]);
    let long = "i".repeat(129);
    let cases = [
        (json!({"ttl_ms": 999}),            "reservation.ttl_ms"),
        (json!({"ttl_ms": 3_600_001}),      "reservation.ttl_ms"),
        (json!({"ttl_ms": 1.5}),            "reservation.ttl_ms"),
        (json!({"ttl_ms": "60000"}),        "reservation.ttl_ms"),
        (json!({"id": ""}),                 "reservation.id"),
        (json!({"id": long}),               "reservation.id"),
        (json!({"id": "é"}),                "reservation.id"),
        (json!({"id": "a\tb"}),             "reservation.id"),
        (json!({"id": 7}),                  "reservation.id"),
        (json!({"name": "a"}),              "reservation.name"),
        (json!([]),                         "reservation"),
        (json!("r"),                        "reservation"),
    ];
    for (reservation, field) in cases {
        let answer = node.check(json!({"api_key": "bob-key", "reservation": reservation}));
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some(field)), "{reservation}");
    }
    for reservation in [json!({"ttl_ms": 1000}), json!({"ttl_ms": 3_600_000, "id": null})] {
        let answer = node.check(json!({"policy": "open", "key": "a", "reservation": reservation}));
        assert_eq!(answer.json()["reservation"]["ttl_ms"], reservation["ttl_ms"]);
    }
    let with = |more: Value| {
        let mut body = json!({"api_key": "bob-key", "cost": {"total_tokens": 0}, "reservation": {}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = node.check(body);
        (answer.status, answer.json()["field"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(with(json!({"after_the_fact": true})), (400, "after_the_fact".into()));
    assert_eq!(with(json!({"cost": {"total_tokens": 1_000_000_001}})), (400, "cost.total_tokens".into()));
    assert_eq!(with(json!({"cost": 1_000_000_001})), (400, "cost".into()));
    assert_eq!(with(json!({"usage": {"output_tokens": 1_000_000_001}})), (400, "usage.output_tokens".into()));
    assert_eq!(with(json!({"cost": {"colours": 1}})), (400, "cost.colours".into()));
    let policies: Vec<Value> = (0..8).map(|key| json!({"policy": "open", "key": key.to_string()})).collect();
    assert_eq!(with(json!({"policies": policies})), (400, "reservation".into()), "nine subjects");
    assert_eq!(with(json!({"policies": policies[..7]})), (200, String::new()));
    assert_eq!(remaining(&node, "bob-key"), [1000, 2]);
}

#[test]
#[rustfmt::skip]
fn an_invalid_change_is_refused_with_the_field_at_fault() {
    let node = Node::with_catalog(CATALOG, &[]);
    let handle = open(&node, "bob-key", 400);
    let cases = [
        ("settle", json!({}),                                     "handle"),
        ("settle", json!({"handle": ""}),                         "handle"),
        ("settle", json!({"handle": null}),                       "handle"),
        ("settle", json!({"handle": "r1."}),                      "handle"),
        ("settle", json!({"handle": &handle[1..]}),               "handle"),
        ("settle", json!({"handle": format!("{handle}A")}),       "handle"),
        ("settle", json!({"handle": "r1.".repeat(300)}),          "handle"),
        ("settle", json!({"handle": handle, "usage": 5}),         "usage"),
        ("settle", json!({"handle": handle, "usage": {"prompt_tokens": -1}}), "usage.prompt_tokens"),
        ("settle", json!({"handle": handle, "usage": {"prompt_tokens": 1_099_511_627_777_u64}}), "usage.prompt_tokens"),
        ("settle", json!({"handle": handle, "actual": 5}),        "actual"),
        ("settle", json!({"handle": handle, "actual": {"total_tokens": 0.5}}), "actual.total_tokens"),
        ("settle", json!({"handle": handle, "actual": {"total_tokens": 1_099_511_627_777_u64}}), "actual.total_tokens"),
        ("settle", json!({"handle": handle, "actual": {"colours": 1}}), "actual.colours"),
        ("settle", json!({"handle": handle, "at_least": 1}),      "at_least"),
        ("settle", json!({"handle": handle, "model": ""}),        "model"),
        ("settle", json!({"handle": handle, "ttl_ms": 60_000}),   "ttl_ms"),
        ("settle", json!({"handle": handle, "cost": 1}),          "cost"),
        ("cancel", json!({"handle": handle, "usage": {}}),        "usage"),
        ("cancel", json!({"handle": handle, "at_least": false}),  "at_least"),
        ("extend", json!({"handle": handle, "at_least": true}),   "at_least"),
        ("extend", json!({"handle": handle, "ttl_ms": 999}),      "ttl_ms"),
        ("extend", json!({"handle": handle, "ttl_ms": 3_600_001}), "ttl_ms"),
        ("settle", json!({"reservations": 5}),                    "reservations"),
        ("settle", json!({"reservations": [], "handle": handle}), "handle"),
        ("settle", json!([handle]),                               "body"),
    ];
    for (endpoint, body, field) in cases {
        let answer = post(&node, &format!("/reservations/{endpoint}"), body.clone());
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some(field)), "{endpoint} {body}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    assert_eq!(node.send("POST", "/reservations/settle", &[], "{").status, 400);
    assert_eq!(node.get("/reservations/settle").status, 405);
    assert_eq!(remaining(&node, "bob-key"), [600, 2]);
    let largest = json!({"handle": handle, "actual": {"total_tokens": 1_099_511_627_776_u64, "input_tokens": 1}});
    assert_eq!(post(&node, "/reservations/settle", largest).status, 200, "what was used is never refused");
}

#[test]
fn reservations_are_changed_by_trusted_callers_only() {
    let untrusted = Node::with_catalog(CATALOG, &["--trusted-peers", "192.0.2.0/24"]);
    let handle = open(&untrusted, "bob-key", 400);
    for endpoint in ["settle", "cancel", "extend"] {
        let answer =
            post(&untrusted, &format!("/reservations/{endpoint}"), json!({"handle": handle}));
        assert_eq!(answer.status, 403, "{endpoint}");
    }
    assert_eq!(remaining(&untrusted, "bob-key"), [600, 2]);
    let node = Node::launch(Some(CATALOG), &[], &[("TOLLGATE_CHECK_TOKEN", "t0ken")]);
    let body = json!({"handle": handle}).to_string();
    let send =
        |headers: &[(&str, &str)]| node.send("POST", "/reservations/cancel", headers, &body).status;
    assert_eq!(send(&[]), 401);
    assert_eq!(
        send(&[("authorization", "Bearer t0ken")]),
        404,
        "known to another node's memory only"
    );
}

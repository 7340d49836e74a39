//! A key on several plans of one stage: all are judged in one check, and each counts on its own.

use serde_json::{Value, json};

use super::usage::{days, today};
use super::{TOKEN, as_bearer, call, node};
use crate::support::node::Node;

pub const CATALOG: &str = r#"
version: 1
apis: [ { id: a, stages: [ { name: prod }, { name: other } ] } ]
plans:
  - id: more
    alongside: true
    api_stages: [ { api: a, stage: prod, methods: { "*": { throttle: { rate: 1/d, burst: 9 } } } } ]
    throttle: { rate: 1/d, burst: 4 }
    limits: [ { name: extra, quota: { limit: 3, period: month } } ]
    on_store_failure: closed
  - id: base
    throttle: { rate: 1/d, burst: 5 }
    limits: [ { name: extra, quota: { limit: 8, period: month } } ]
  - { id: second, throttle: { rate: 1/d, burst: 5 } }
  - { id: lenient, alongside: true, throttle: { rate: 1/d, burst: 5 }, on_store_failure: open }
  - { id: open, throttle: { rate: 1/d, burst: 5 }, on_store_failure: open }
keys:
  - { id: both, value: key-both, plans: [more, base] }
  - { id: only, value: key-only, plans: [more] }
  - { id: turned, value: key-turned, plans: [base, more] }
  - { id: strict-last, value: key-strict-last, plans: [open, more] }
  - { id: strict-first, value: key-strict-first, plans: [more, lenient] }
  - { id: open, value: key-open, plans: [open, lenient] }
"#;

pub fn plans_are_judged_in_one_check(node: &Node) {
    let check = |value: &str, cost: u64| {
        node.check(json!({
            "api_key": value, "api": "a", "stage": "prod", "method": "GET", "path": "/x", "cost": cost,
        }))
    };
    let names = |answer: Value| -> Vec<(String, u64)> {
        let limits = answer["limits"].as_array().unwrap().clone();
        let summary = |limit: &Value| {
            (limit["name"].as_str().unwrap().to_owned(), limit["remaining"].as_u64().unwrap())
        };
        limits.iter().map(summary).collect()
    };
    let expected = |left: [u64; 5]| -> Vec<(String, u64)> {
        let names = [
            "base/throttle",
            "base/extra",
            "more/a/prod/GET /x/throttle",
            "more/throttle",
            "more/extra",
        ];
        names.map(str::to_owned).into_iter().zip(left).collect()
    };
    let answer = check("key-both", 2);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["key"]["plan"], "base");
    assert_eq!(names(answer.json()), expected([3, 6, 7, 2, 1]));
    let policy = answer.header("ratelimit-policy").unwrap();
    assert!(policy.contains("base/extra") && policy.contains("more/extra"), "{policy}");
    // If one of them refuses, nothing is charged, and the response names that one.
    let refused = check("key-both", 2);
    assert_eq!((refused.status, &refused.json()["violated"]), (429, &json!("more/extra")));
    assert_eq!(names(check("key-both", 0).json()), expected([3, 6, 7, 2, 1]));
    // A check without a stage is charged to all of them, too.
    assert_eq!(
        node.check(json!({"api_key": "key-both", "cost": 2})).json()["violated"],
        "more/extra"
    );
    // A check of another stage is charged only to the plans that serve it.
    let elsewhere = json!({"api_key": "key-both", "api": "a", "stage": "other"});
    assert_eq!(node.check(elsewhere).json()["limits"].as_array().unwrap().len(), 2);
    let used = |plan: &str| days(node, plan, "both", "requests", today(0))[0];
    assert_eq!((used("base")[0], used("more")), (3, [2, 1]));
    // The order of a key's plans makes no difference.
    assert_eq!(names(check("key-turned", 2).json()), expected([3, 6, 7, 2, 1]));
    let alone = check("key-only", 3);
    assert_eq!((alone.status, &alone.json()["key"]["plan"]), (200, &json!("more")));
    assert_eq!(
        node.check(json!({"api_key": "key-only", "api": "a", "stage": "other"})).status,
        403
    );
}

#[test]
fn plans_alongside_each_other_are_judged_in_one_check_in_the_embedded_mode() {
    plans_are_judged_in_one_check(&node(Some(CATALOG), &[]));
}

#[test]
fn a_second_plan_of_a_stage_is_a_conflict_unless_it_stands_alongside() {
    let node = node(Some(CATALOG), &[]);
    let plan =
        |body: Value| call(&node, "POST", "/usageplans", body)["id"].as_str().unwrap().to_owned();
    let one = plan(json!({"name": "one"}));
    let two = plan(json!({"name": "two", "alongside": true}));
    let three = plan(json!({"name": "three"}));
    let key = call(&node, "POST", "/apikeys", json!({"enabled": true}));
    let other = call(&node, "POST", "/apikeys", json!({"enabled": true}));
    let put = |key: &Value, plan: &str| {
        let body = json!({"keyId": key["id"], "keyType": "API_KEY"}).to_string();
        as_bearer(&node, TOKEN, "POST", &format!("/usageplans/{plan}/keys"), &body).status
    };
    assert_eq!([&*two, &one, &three].map(|plan| put(&other, plan)), [201, 201, 409]);
    let link = |plan: &str| put(&key, plan);
    assert_eq!([&*one, &two, "more", &three].map(link), [201, 201, 201, 409]);
    let third = format!("/usageplans/{three}");
    let patch = |op: &str| {
        let body = json!({"patchOperations": [{"op": op, "path": "/alongside", "value": "true"}]});
        call(&node, "PATCH", &third, body)["alongside"].clone()
    };
    assert_eq!(patch("replace"), true);
    assert_eq!(link(&three), 201);
    // A plan no longer stands alongside, with keys on it already: of two such plans the first
    // counts.
    assert_eq!(patch("remove"), Value::Null);
    let check = |place: Value| {
        let mut check = json!({"api_key": key["value"]});
        check.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
        node.check(check)
    };
    assert_eq!(check(json!({})).status, 400);
    let answer = check(json!({"api": "a", "stage": "prod"}));
    assert_eq!((answer.status, &answer.json()["key"]["plan"]), (200, &json!(one)));
}

#[test]
fn plans_without_stages_exclude_each_other_even_before_there_is_a_stage() {
    let node = node(None, &[]);
    let plan = |body: Value| call(&node, "POST", "/usageplans", body)["id"].clone();
    let plans = [json!({"name": "one"}), json!({"name": "two"})].map(plan);
    let key = call(&node, "POST", "/apikeys", json!({"enabled": true}));
    let link = |plan: &Value| {
        let path = format!("/usageplans/{}/keys", plan.as_str().unwrap());
        let body = json!({"keyId": key["id"], "keyType": "API_KEY"}).to_string();
        as_bearer(&node, TOKEN, "POST", &path, &body).status
    };
    assert_eq!(plans.each_ref().map(link), [201, 409]);
}

//! Bounds on the sizes of requests to the admin API: each is an error that names it, and nothing is
//! changed.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{TOKEN, as_bearer, call, node};

/// An object with `count` members of `bytes` each.
fn texts(count: usize, bytes: usize) -> Value {
    let text = "x".repeat(bytes);
    (0..count).map(|n| (format!("t{n}"), json!(text))).collect::<Map<_, _>>().into()
}

#[test]
fn a_size_beyond_its_bound_is_an_error_that_names_the_bound() {
    let node = node(Some("version: 1"), &[]);
    let plan = call(&node, "POST", "/usageplans", json!({"name": "p"}));
    let plan = format!("/usageplans/{}", plan["id"].as_str().unwrap());
    let operation = json!({"op": "replace", "path": "/name", "value": "q"});
    let operations = |count: usize| json!({"patchOperations": vec![operation.clone(); count]});
    let limit = |n| json!({"name": format!("l{n}"), "unit": format!("u{n}"), "throttle": {"rate": 1, "burst": 1}});
    let limits =
        |count: usize| json!({"name": "p", "limits": (0..count).map(limit).collect::<Vec<_>>()});
    let mut csv = "name,key\n".to_owned();
    for number in 0..=100_000 {
        writeln!(csv, "n,a-value-of-a-key-{number:06}").unwrap();
    }
    let import = "/apikeys?mode=import&format=csv";
    let cases = [
        (
            "PATCH",
            &*plan,
            operations(10_001).to_string(),
            "10001 operations, and a request has at most 10000",
        ),
        ("POST", "/usageplans", limits(251).to_string(), "at most 250 limits, and these are 251"),
        (
            "POST",
            "/usageplans",
            limits(20_000).to_string(),
            "at most 250 limits, and these are 20000",
        ),
        (
            "POST",
            "/usageplans",
            json!({"name": "p", "tags": texts(70, 65_000)}).to_string(),
            "at most 4194304 are allowed",
        ),
        (
            "POST",
            "/apikeys",
            json!({"name": "k", "tags": texts(3, 65_000)}).to_string(),
            "at most 131072 are allowed",
        ),
        ("POST", import, csv, "the file has more than 100000 keys"),
    ];
    for (method, path, body, expected) in cases {
        let answer = as_bearer(&node, TOKEN, method, path, &body);
        let shown: String = answer.body.chars().take(500).collect();
        assert!(answer.status == 400 && answer.body.contains(expected), "{expected}: {shown}");
    }
    assert_eq!(
        as_bearer(&node, TOKEN, "PATCH", &plan, &operations(10_000).to_string()).status,
        200
    );
    assert_eq!(call(&node, "GET", &plan, json!(null))["name"], "q");
    assert_eq!(call(&node, "GET", "/apikeys", json!(null))["item"], json!([]));
    let stages: Vec<Value> =
        (0..5_000).map(|n| json!({"apiId": "x", "stage": format!("{n}")})).collect();
    let unknown = json!({"name": "p", "apiStages": stages}).to_string();
    let answer = as_bearer(&node, TOKEN, "POST", "/usageplans", &unknown);
    assert!(answer.status == 404 && answer.body.len() < 10_000, "{} bytes", answer.body.len());
}

#[test]
fn a_key_is_on_at_most_sixteen_plans() {
    let node = node(Some("version: 1"), &[]);
    let key = call(&node, "POST", "/apikeys", json!({"name": "k"}));
    let link = json!({"keyId": key["id"], "keyType": "API_KEY"});
    for number in 0..=16 {
        let plan = call(&node, "POST", "/usageplans", json!({"name": "p", "alongside": true}));
        let keys = format!("/usageplans/{}/keys", plan["id"].as_str().unwrap());
        let answer = as_bearer(&node, TOKEN, "POST", &keys, &link.to_string());
        assert_eq!(answer.status, if number < 16 { 201 } else { 400 }, "{answer:?}");
    }
    let plans = call(&node, "GET", "/usageplans?limit=500", json!(null));
    let ids = plans["item"].as_array().unwrap().iter().map(|plan| plan["id"].as_str().unwrap());
    let csv = format!(
        "name,key,usageplanids\nn,a-value-of-a-new-key,\"{}\"\n",
        ids.collect::<Vec<_>>().join(",")
    );
    let answer = as_bearer(&node, TOKEN, "POST", "/apikeys?mode=import&format=csv", &csv);
    assert!(answer.body.contains("line 2: a key is on at most 16 usage plans"), "{answer:?}");
}

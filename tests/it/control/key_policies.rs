//! A key's policies through the API: created, patched, shown, and lost by the catalog file.

use serde_json::{Value, json};

use super::overrides::patch;
use super::{TOKEN, as_bearer, call, node};
use crate::support::eventually;
use crate::support::node::Node;

pub const CATALOG: &str = r#"
version: 1
plans: [ { id: p, throttle: { rate: 1/h, burst: 100 } } ]
policies:
  - { name: team, throttle: { rate: 1/h, burst: 3 } }
  - { name: org, quota: { limit: 50, period: day } }
keys: [ { id: filed, value: key-filed, plans: [p], policies: { org: acme } } ]
"#;

/// The id and the value of a new key on the plan.
pub fn key_with(node: &Node, policies: &Value) -> (String, String) {
    let key = call(node, "POST", "/apikeys", json!({"enabled": true, "policies": policies}));
    let text = |member: &str| key[member].as_str().unwrap().to_owned();
    let link = json!({"keyId": key["id"], "keyType": "API_KEY"});
    call(node, "POST", "/usageplans/p/keys", link);
    (text("id"), text("value"))
}

/// The names of the limits that judge a check of a key.
pub fn judged(node: &Node, value: &str) -> Vec<String> {
    let answer = node.check(json!({"api_key": value, "cost": 0})).json();
    let limits = answer["limits"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    limits.map(|limit| limit["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn invalid_ones_are_refused_and_change_nothing() {
    let node = node(Some(CATALOG), &[]);
    let (id, value) = key_with(&node, &json!({"team": "red"}));
    let many: serde_json::Map<_, _> = (0..7).map(|n| (format!("p{n}"), json!("a"))).collect();
    for (policies, expected) in [
        (json!({"tem": "red"}), "policies.tem: there is no policy `tem`"),
        (json!({"team": ""}), "policies.team: the key that a policy counts has"),
        (json!({"team": "a\nb"}), "policies.team: the key that a policy counts has"),
        (json!({"team": "x".repeat(1025)}), "policies.team: the key that a policy counts has"),
        (json!({"team": 7}), "policies.team: expected text"),
        (json!(["team"]), "policies: expected an object"),
        (json!(many), "policies: a key has at most 6 policies, and this one 7"),
    ] {
        let body = json!({"enabled": true, "policies": policies}).to_string();
        let answer = as_bearer(&node, TOKEN, "POST", "/apikeys", &body);
        assert!(answer.status == 400 && answer.body.contains(expected), "{policies}: {answer:?}");
        let answer = patch(&node, &id, &[("replace", "/policies", &policies.to_string())]);
        assert_eq!(answer.status, 400, "{policies}: {answer:?}");
    }
    for operation in [
        ("replace", "/policies/tem", "red"),
        ("replace", "/policies/team", ""),
        ("replace", "/policies/team/key", "red"),
        ("replace", "/policies", "team"),
        ("copy", "/policies/team", "red"),
    ] {
        assert_eq!(patch(&node, &id, &[operation]).status, 400, "{operation:?}");
    }
    assert_eq!(judged(&node, &value), ["p/throttle", "policy:team/throttle"]);
}

#[test]
fn one_that_the_catalog_file_loses_is_ignored_logged_and_listed() {
    let node = node(Some(CATALOG), &[]);
    let (id, value) = key_with(&node, &json!({"team": "red", "org": "acme"}));
    let show = |id: &str| call(&node, "GET", &format!("/apikeys/{id}"), Value::Null);
    assert_eq!(show("filed")["policies"], json!({"org": "acme"}), "the file's key shows its own");
    assert_eq!(show(&id)["ignoredPolicies"], Value::Null);
    let lost = CATALOG.replace("  - { name: team, throttle: { rate: 1/h, burst: 3 } }\n", "");
    std::fs::write(node.catalog_file(), &lost).unwrap();
    eventually("it is ignored", || judged(&node, &value) == ["p/throttle", "policy:org/quota"]);
    let ignored = show(&id)["ignoredPolicies"].to_string();
    assert!(ignored.contains("policies.team: there is no policy `team`"), "{ignored}");
    let lines = node.log().matches("a policy of the key is ignored").count();
    judged(&node, &value);
    assert_eq!((lines, node.log().matches("a policy of the key is ignored").count()), (1, 1));
    assert_eq!(patch(&node, &id, &[("replace", "/name", "still")]).status, 200);
    // The file's own keys must fit.
    std::fs::write(node.catalog_file(), lost.replace("  - { name: org,", "  - { name: other,"))
        .unwrap();
    eventually("the file is rejected", || node.log().contains("the catalog was not reloaded"));
    assert!(node.log().contains("keys[0].policies.org: there is no policy `org`"));
    assert_eq!(judged(&node, "key-filed"), ["p/throttle", "policy:org/quota"]);
}

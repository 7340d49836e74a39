//! The ids of usage plans, which metrics and headers show: readable unless the name is not.

use serde_json::{Value, json};

use super::{call, node};

fn create(node: &crate::support::node::Node, name: &str) -> String {
    let plan = call(node, "POST", "/usageplans", json!({ "name": name }));
    plan["id"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_id_of_a_plan_is_made_from_its_name_and_stays_when_it_is_renamed() {
    let node = node(Some("version: 1\nplans: [{ id: free }]"), &[]);
    assert_eq!(create(&node, "Team Gold (EU)"), "team-gold-eu");
    for (name, taken) in [("Team Gold, EU", "team-gold-eu"), ("Free", "free")] {
        let id = create(&node, name);
        let suffix = id.strip_prefix(taken).and_then(|rest| rest.strip_prefix('-')).unwrap();
        assert_eq!(suffix.len(), 4, "AWS allows two plans of one name: {id}");
    }
    assert_eq!(create(&node, "..").len(), 10, "neither `.` nor `..` is a segment of a path");
    let rename =
        json!({"patchOperations": [{"op": "replace", "path": "/name", "value": "Silver"}]});
    let renamed = call(&node, "PATCH", "/usageplans/team-gold-eu", rename);
    assert_eq!((&renamed["id"], &renamed["name"]), (&json!("team-gold-eu"), &json!("Silver")));
    let key = call(&node, "POST", "/apikeys", json!({"name": "acme", "enabled": true}));
    let on_plan = json!({"keyId": key["id"], "keyType": "API_KEY"});
    call(&node, "POST", "/usageplans/team-gold-eu/keys", on_plan);
    let answer = node.check(json!({"api_key": key["value"]}));
    assert_eq!(answer.json()["key"]["plan"], "team-gold-eu", "{answer:?}");
    assert!(node.get("/metrics").body.contains(r#"plan="team-gold-eu""#));
    let plans = call(&node, "GET", "/usageplans", Value::Null);
    assert_eq!(plans["item"].as_array().unwrap().len(), 5);
}

//! Rotation of keys: two values are accepted for an overlap, then one.

use serde_json::json;

use super::{TOKEN, as_bearer, call, node, plan_and_key};
use crate::support::node::Node;

pub fn rotate(node: &Node, id: &str, overlap: u64) -> String {
    let rotated =
        call(node, "POST", &format!("/apikeys/{id}/rotate"), json!({"overlapSeconds": overlap}));
    assert_eq!(rotated["id"], json!(id));
    assert_eq!(rotated["previousValueUntil"].is_string(), overlap > 0, "{rotated}");
    rotated["value"].as_str().unwrap().to_owned()
}

#[test]
fn an_invalid_rotation_is_a_clear_4xx_and_changes_nothing() {
    let node = node(None, &[]);
    let (id, value, _) = plan_and_key(&node, 1000);
    let taken = call(&node, "POST", "/apikeys", json!({"name": "other"}));
    let path = format!("/apikeys/{id}/rotate");
    #[rustfmt::skip]
    let cases = [
        (&*path, json!({}),                                                 400, "overlapSeconds"),
        (&*path, json!({"overlapSeconds": -1}),                             400, "overlapSeconds"),
        (&*path, json!({"overlapSeconds": 40_000_000}),                     400, "a year"),
        (&*path, json!({"overlapSeconds": 1, "value": "short"}),            400, "20 characters"),
        (&*path, json!({"overlapSeconds": 1, "value": taken["value"]}),     409, "exists"),
        (&*path, json!({"overlapSeconds": 1, "value": value}),              409, "exists"),
        ("/apikeys/nobody/rotate", json!({"overlapSeconds": 1}),            404, "identifier"),
    ];
    for (path, body, status, word) in cases {
        let answer = as_bearer(&node, TOKEN, "POST", path, &body.to_string());
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(answer.body.contains(word), "{body}: {answer:?}");
        assert_eq!(node.check(json!({"api_key": value})).status, 200);
    }
}

//! Rotation of keys: two values are accepted for an overlap, then one.

use serde_json::json;

use super::{TOKEN, as_bearer, call, node, plan_and_key};
use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

fn rotate(node: &Node, id: &str, overlap: u64) -> String {
    let rotated =
        call(node, "POST", &format!("/apikeys/{id}/rotate"), json!({"overlapSeconds": overlap}));
    assert_eq!(rotated["id"], json!(id));
    assert_eq!(rotated["previousValueUntil"].is_string(), overlap > 0, "{rotated}");
    rotated["value"].as_str().unwrap().to_owned()
}

#[test]
fn a_rotated_key_has_two_values_for_the_overlap_and_then_one_on_every_node() {
    let redis = RedisServer::start();
    let url = redis.url();
    let (one, other) = (node(None, &["--store", &url]), Node::start(&["--store", &url]));
    let (id, first, _) = plan_and_key(&one, 1_000_000);
    let status = |node: &Node, value: &str| node.check(json!({"api_key": value})).status;
    eventually("the other node accepts the key", || status(&other, &first) == 200);
    let second = rotate(&one, &id, 3600);
    eventually("both values are the same key everywhere", || status(&other, &second) == 200);
    let left = |value: &str| {
        one.check(json!({"api_key": value})).json()["limits"][0]["remaining"].as_u64().unwrap()
    };
    assert_eq!(left(&first), left(&second) + 1, "and count together");
    assert_eq!(status(&other, &first), 200);
    // Of two replaced values only the later is accepted, until its overlap ends.
    let third = rotate(&one, &id, 2);
    assert_eq!([&first, &second, &third].map(|value| status(&one, value)), [403, 200, 200]);
    eventually("the first is refused everywhere", || status(&other, &first) == 403);
    for node in [&one, &other] {
        eventually("the overlap ends", || status(node, &second) == 403);
        assert_eq!(status(node, &third), 200);
    }
    let fourth = rotate(&one, &id, 0);
    assert_eq!([&third, &fourth].map(|value| status(&one, value)), [403, 200]);
    eventually("without an overlap the old one ends at once", || status(&other, &third) == 403);
    let fifth = rotate(&one, &id, 3600);
    call(&one, "DELETE", &format!("/apikeys/{id}"), json!(null));
    for value in [&fourth, &fifth] {
        assert_eq!(status(&one, value), 403);
        eventually("a deleted key has no value", || status(&other, value) == 403);
    }
    let held = format!("{:?}", redis.command(&["HKEYS", "tg:{registry}"]));
    assert!(!held.contains("digest/"), "{held}");
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

//! The index of the names of API keys, in Redis.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::{Value, json};

use super::{call, node};
use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

const INDEX: &str = "tg:{registry}:names";

fn create(node: &Node, name: &str) -> String {
    let key = call(node, "POST", "/apikeys", json!({ "name": name }));
    key["id"].as_str().unwrap().to_owned()
}

/// The ids of the keys with this name, and the number of keys that were read to find them.
fn search(node: &Node, name: &str) -> (Vec<String>, u64) {
    let found = call(node, "GET", &format!("/apikeys?name={name}&scan=1000"), Value::Null);
    let ids = found["item"].as_array().unwrap().iter();
    let ids = ids.map(|key| key["id"].as_str().unwrap().to_owned()).collect();
    (ids, found["scanned"].as_u64().unwrap())
}

#[test]
fn names_are_found_before_their_index_is_made_and_by_it_afterwards() {
    let redis = RedisServer::start();
    let node = node(None, &["--store", &redis.url()]);
    let [acme, other] = ["acme", "other"].map(|name| create(&node, name));
    assert_eq!(search(&node, "acme"), (vec![acme.clone()], 1));
    let rows = format!("{:?}", redis.command(&["ZRANGE", INDEX, "0", "-1"]));
    // The registry of a release without the index, with a key that such a node makes meanwhile.
    redis.command(&["DEL", INDEX]);
    let late = create(&node, "acme");
    let mut both = vec![acme, late];
    both.sort_unstable();
    assert_eq!(search(&node, "acme"), (both.clone(), 3), "all keys are read");
    eventually("the index is made", || search(&node, "acme") == (both.clone(), 2));
    call(&node, "DELETE", &format!("/apikeys/{}", both[0]), Value::Null);
    call(&node, "DELETE", &format!("/apikeys/{}", both[1]), Value::Null);
    assert_eq!(search(&node, "acme"), (Vec::new(), 0));
    assert_eq!(search(&node, "o"), (vec![other], 1));
    let left = format!("{:?}", redis.command(&["ZRANGE", INDEX, "0", "-1"]));
    assert!(rows.contains("acme") && !left.contains("acme"), "{rows} {left}");
}

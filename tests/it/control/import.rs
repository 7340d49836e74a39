//! Import of keys from a file: each key is created and logged once, also by concurrent imports.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{TOKEN, as_bearer, call, node};
use crate::support::eventually;
use crate::support::node::Node;

const KEYS: usize = 60;

fn value(number: usize) -> String {
    format!("the-value-of-key-number-{number}")
}

/// All items of a list, by their ids.
fn ids(node: &Node, list: &str) -> BTreeSet<String> {
    let page = call(node, "GET", &format!("{list}?limit=500"), json!(null));
    let id = |item: &Value| item["id"].as_str().unwrap().to_owned();
    page["item"].as_array().unwrap().iter().map(id).collect()
}

/// Imports the same file twice at the same time, by the same node or by two.
pub fn each_key_is_created_once(nodes: [&Node; 2]) {
    let plan = call(nodes[0], "POST", "/usageplans", json!({"name": "p"}));
    let plan = plan["id"].as_str().unwrap();
    let line = |number| format!("k{number},{},{plan}\n", value(number));
    let csv = "name,key,usageplanids\n".to_owned() + &(0..KEYS).map(line).collect::<String>();
    let import = |node| {
        let answer = as_bearer(node, TOKEN, "POST", "/apikeys?mode=import&format=csv", &csv);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    };
    let results = std::thread::scope(|scope| {
        nodes.map(|node| scope.spawn(move || import(node))).map(|import| import.join().unwrap())
    });
    let made = ids(nodes[0], "/apikeys");
    assert_eq!(made.len(), KEYS);
    assert_eq!(ids(nodes[1], &format!("/usageplans/{plan}/keys")), made);
    for result in results {
        // A line of the slower import may conflict with the creation of its key.
        let warned = result["warnings"].as_array().unwrap().iter();
        let warned = warned.filter(|why| why.as_str().unwrap().contains("already exists")).count();
        assert_eq!(result["ids"].as_array().unwrap().len() + warned, KEYS, "{result}");
    }
    for number in 0..KEYS {
        for node in nodes {
            let passes = || node.check(json!({"api_key": value(number)})).status == 200;
            eventually("the key is accepted", passes);
        }
    }
    let log = call(nodes[0], "GET", "/audit?limit=500&path=/apikeys", json!(null));
    let log = log["item"].as_array().unwrap();
    let changed = log.iter().flat_map(|note| note["changed"].as_array().unwrap());
    let noted = changed.filter_map(|path| path.as_str().unwrap().strip_prefix("/apikeys/"));
    assert_eq!(noted.map(str::to_owned).collect::<BTreeSet<_>>(), made);
}

#[test]
fn concurrent_imports_of_one_file_create_each_key_once_in_the_embedded_mode() {
    let node = node(None, &[]);
    each_key_is_created_once([&node, &node]);
}

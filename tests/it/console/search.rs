//! The search for API keys: `GET /apikeys` by the beginning of a name, and in parts with `scan`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::control::{TOKEN, as_bearer, call, node};
use crate::support::node::Node;

const CATALOG: &str = r#"
version: 1
keys: [{ id: filed, name: "rare, of the file", value: the-value-of-filed }]
"#;

/// A node with 1,800 keys of the API, three of which have a rare name, and one of the file.
fn node_with_keys() -> Node {
    let node = node(Some(CATALOG), &[]);
    let mut csv = String::from("name,key,enabled\n");
    for number in 0..1_800 {
        let name = if number % 600 == 7 { "rare" } else { "common" };
        writeln!(csv, "{name}-{number},a-value-of-a-key-{number:08},true").unwrap();
    }
    let path = "/apikeys?mode=import&format=csv";
    let imported = as_bearer(&node, TOKEN, "POST", path, &csv);
    assert_eq!(imported.status, 201, "{imported:?}");
    node
}

/// The names of all pages of a list, and the keys that were read for each.
fn pages(node: &Node, query: &str) -> (Vec<String>, Vec<u64>) {
    let (mut names, mut scanned, mut position) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = call(node, "GET", &format!("/apikeys?{query}{position}"), json!(null));
        let keys = page["item"].as_array().unwrap().iter();
        names.extend(keys.map(|key| key["name"].as_str().unwrap().to_owned()));
        scanned.push(page["scanned"].as_u64().unwrap_or_default());
        let Some(next) = page["position"].as_str() else { return (names, scanned) };
        position = format!("&position={}", next.replace(' ', "%20"));
    }
}

#[test]
fn a_search_by_name_reads_the_keys_that_it_finds_and_no_others() {
    let node = node_with_keys();
    let in_order = ["rare, of the file", "rare-1207", "rare-607", "rare-7"];
    assert_eq!(pages(&node, "name=rare&scan=700"), (in_order.map(Into::into).into(), vec![4]));
    for limit in 1..=4 {
        assert_eq!(pages(&node, &format!("name=rare&limit={limit}")).0, in_order, "{limit}");
    }
    assert_eq!(pages(&node, "name=common&limit=500").0.len(), 1_797);
    assert_eq!(pages(&node, "name=Rare").0, [""; 0]);
    // A key is found by its new name, and one that was deleted by none.
    let id = |name: &str| {
        let path = format!("/apikeys?name={name}");
        call(&node, "GET", &path, json!(null))["item"][0]["id"].as_str().unwrap().to_owned()
    };
    let rename = json!({"patchOperations": [{"op": "replace", "path": "/name", "value": "new"}]});
    call(&node, "PATCH", &format!("/apikeys/{}", id("rare-607")), rename);
    call(&node, "DELETE", &format!("/apikeys/{}", id("rare-7")), json!(null));
    assert_eq!(pages(&node, "name=rare").0, in_order[..2]);
    assert_eq!(pages(&node, "name=new").0, ["new"]);
}

#[test]
fn a_search_by_customer_reads_a_bounded_number_of_keys_at_a_time_and_finds_all() {
    let node = node_with_keys();
    for name in ["one", "two"] {
        call(&node, "POST", "/apikeys", json!({"name": name, "customerId": "acme"}));
    }
    let (mut found, scanned) = pages(&node, "customerId=acme&scan=700");
    found.sort_unstable();
    assert_eq!(found, ["one", "two"]);
    assert_eq!((scanned.iter().sum::<u64>(), scanned.len()), (1_803, 2));
    assert!(scanned[0] < 700 + 501, "a batch may be begun, and no further one: {scanned:?}");
    let page = call(&node, "GET", "/apikeys?customerId=acme&name=t", json!(null));
    assert_eq!((&page["item"][0]["name"], &page["scanned"]), (&json!("two"), &Value::Null));
    for (query, named) in [("name=rare&scan=0", "scan"), ("name=rare&scan=some", "scan")] {
        let refused = as_bearer(&node, TOKEN, "GET", &format!("/apikeys?{query}"), "");
        assert!(refused.status == 400 && refused.body.contains(named), "{refused:?}");
    }
}

#[test]
fn the_index_of_names_in_a_data_directory_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", dir.path().to_str().unwrap()];
    let first = node(None, &flags);
    for name in ["acme", "other"] {
        call(&first, "POST", "/apikeys", json!({ "name": name }));
    }
    assert_eq!(first.stop(), Some(0));
    let second = node(None, &flags);
    assert_eq!(pages(&second, "name=ac&scan=9"), (vec!["acme".into()], vec![1]));
}

//! The search by name in parts: `GET /apikeys` with `scan`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::control::{TOKEN, as_bearer, call, node};

#[test]
fn a_search_by_name_reads_a_bounded_number_of_keys_at_a_time_and_finds_all() {
    let node = node(None, &[]);
    let mut csv = String::from("name,key,enabled\n");
    for number in 0..1_800 {
        let name = if number % 600 == 7 { "rare" } else { "common" };
        writeln!(csv, "{name}-{number},a-value-of-a-key-{number:08},true").unwrap();
    }
    let path = "/apikeys?mode=import&format=csv";
    let imported = as_bearer(&node, TOKEN, "POST", path, &csv);
    assert_eq!(imported.status, 201, "{imported:?}");
    let (mut found, mut scanned, mut parts) = (Vec::new(), 0, 0);
    let mut position = String::new();
    loop {
        let path = format!("/apikeys?name=rare&scan=700{position}");
        let page = call(&node, "GET", &path, json!(null));
        let names = page["item"].as_array().unwrap().iter().map(|key| key["name"].clone());
        found.extend(names);
        let of_page = page["scanned"].as_u64().unwrap();
        assert!(of_page < 700 + 501, "a batch may be begun, and no further one: {of_page}");
        scanned += of_page;
        parts += 1;
        let Some(next) = page["position"].as_str() else { break };
        position = format!("&position={next}");
    }
    assert_eq!((found.len(), scanned, parts), (3, 1_800, 2));
    let all = call(&node, "GET", "/apikeys?name=rare", json!(null));
    assert_eq!((all["item"].as_array().unwrap().len(), &all["scanned"]), (3, &Value::Null));
    for (query, named) in [("name=rare&scan=0", "scan"), ("name=rare&scan=some", "scan")] {
        let refused = as_bearer(&node, TOKEN, "GET", &format!("/apikeys?{query}"), "");
        assert!(refused.status == 400 && refused.body.contains(named), "{refused:?}");
    }
}

//! Reservations whose plan or limits have changed since they were opened.

use std::fs;

use serde_json::json;

use super::{CATALOG, handle, left, open, remaining, reserve, settle};
use crate::support::eventually;
use crate::support::node::Node;

#[test]
fn a_reservation_is_settled_whatever_has_become_of_its_plan() {
    let node = Node::with_catalog(CATALOG, &[]);
    let [removed, changed] = ["bob-key", "carol-key"].map(|key| open(&node, key, 400));
    let larger = CATALOG.replace("burst: 1000 }", "burst: 2000 }");
    fs::write(node.catalog_file(), &larger).unwrap();
    eventually("the limit is larger", || remaining(&node, "carol-key")[0] == 1600);
    let settled = settle(&node, &changed, 100);
    assert_eq!(left(&settled.json()), [1900, 2], "in the new size");
    let without = CATALOG.replace("plans: [small]", "plans: [pro]");
    let (before, rest) = without.split_once("  - id: small").unwrap();
    let (_, after) = rest.split_once("  - { id: money").unwrap();
    fs::write(node.catalog_file(), format!("{before}  - {{ id: money{after}")).unwrap();
    eventually("the plan is gone", || remaining(&node, "bob-key").len() == 3);
    let settled = settle(&node, &removed, 100);
    assert_eq!((settled.status, &settled.json()["limits"]), (200, &json!([])));
    assert_eq!(settled.json()["charged"]["total_tokens"], 400, "the charge stays");
    assert_eq!(settle(&node, &removed, 100).status, 404);
}

#[test]
fn a_repeated_check_gets_its_handle_though_its_cost_would_never_fit_now() {
    let node = Node::with_catalog(CATALOG, &[]);
    let first = reserve(&node, "carol-key", 400, "a");
    let smaller = CATALOG.replace("burst: 1000 }", "burst: 300 }");
    fs::write(node.catalog_file(), &smaller).unwrap();
    eventually("the limit is smaller", || remaining(&node, "carol-key")[0] == -100);
    let again = reserve(&node, "carol-key", 400, "a");
    assert_eq!((again.status, handle(&again)), (200, handle(&first)));
    assert_eq!(again.json()["violated"], json!(null), "though the limit is in debt");
}

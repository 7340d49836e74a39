//! The metrics of reservations.

use serde_json::json;

use super::{CATALOG, cancel, open, post, reserve, settle};
use crate::support::node::Node;

#[test]
fn outcomes_and_units_of_reservations_are_counted() {
    let node = Node::with_catalog(CATALOG, &[]);
    let first = open(&node, "bob-key", 400);
    settle(&node, &first, 100);
    settle(&node, &first, 100);
    cancel(&node, &open(&node, "bob-key", 200));
    let over = open(&node, "bob-key", 300);
    let actual = json!({"total_tokens": 5_000});
    post(&node, "/reservations/extend", json!({"handle": over, "actual": actual}));
    settle(&node, &over, 5_000);
    for _ in 0..2 {
        reserve(&node, "carol-key", 10, "a");
    }
    let outcome = |outcome: &str| {
        let labels = format!(r#"{{outcome="{outcome}",plan="small"}}"#);
        node.metric("tollgate_reservations_total", &labels)
    };
    let outcomes = ["opened", "replayed", "settled", "late", "cancelled", "unknown", "stopped"];
    assert_eq!(outcomes.map(outcome), [4.0, 1.0, 2.0, 0.0, 1.0, 1.0, 1.0]);
    let units = |metric: &str| {
        node.metric(
            &format!("tollgate_{metric}_units_total"),
            r#"{limit="small/tpm",plan="small"}"#,
        )
    };
    assert_eq!(["reserved", "used", "overrun"].map(units), [910.0, 5_100.0, 4_700.0]);
    assert_eq!(node.metric("tollgate_decisions_total", r#"plan="small""#), 5.0);
    let debts = |part| node.metric(&format!("tollgate_debt_units_{part}"), "");
    assert_eq!((debts("count"), debts("sum")), (1.0, 4_100.0), "by the charge that left it");
}

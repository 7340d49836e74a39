//! `tollgate top` against a running node.

use serde_json::json;

use super::{shown, table};
use crate::commands::usage::with_plans;

#[test]
fn top_prints_a_table_once_without_a_terminal_and_json_for_programs() {
    let node = with_plans(&[]);
    for cost in [400, 700, 1] {
        node.check(json!({"api_key": "key-b", "cost": cost}));
    }
    let rows = table(&node, "top");
    let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..4], ["LIMIT", "KEY", "REFUSED/MIN", "USED/MIN"]);
    assert_eq!(rows[1], ["basic/quota", "b", "1", "401", "1", "401", "requests"]);
    assert_eq!(rows.len(), 2, "{rows:?}");
    let used = shown(&node, "top --by used --window hour --limit basic/quota -n 1");
    assert_eq!(used["item"][0]["hour"], json!({"refused": 1, "used": 401}));
    let (code, _, error) = super::run(&node, "top --by most");
    assert!(code == Some(2) && error.contains("refused or used"), "{error}");
}

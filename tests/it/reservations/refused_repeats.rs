//! Repeated checks that today's catalog refuses.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;

use serde_json::{Value, json};

use super::{CATALOG, cancel, handle, on_both, remaining};
use crate::support::eventually;

#[test]
fn a_repeated_check_gets_its_handle_though_the_catalog_would_refuse_it_now() {
    on_both(|node| {
        let usage = json!({"input_tokens": 10, "output_tokens": 20});
        let checks = [
            json!({"api_key": "dora-key", "model": "gpt-5", "usage": usage, "reservation": {"id": "price"}}),
            json!({"api_key": "alice-key", "model": "other", "usage": {"input_tokens": 10}, "reservation": {"id": "output"}}),
            json!({"api_key": "carol-key", "policy": "open", "key": "a", "cost": {"total_tokens": 5}, "reservation": {"id": "policy"}}),
            json!({"api_key": "carol-key", "cost": {"total_tokens": 5, "burndown": 5}, "reservation": {"id": "unit"}}),
            json!({"policy": "open", "key": "b", "cost": {"total_tokens": 5}, "reservation": {"id": "keyless"}}),
        ];
        let first = checks.each_ref().map(|check| node.check(check.clone()));
        for first in &first {
            assert_eq!(first.status, 200, "{first:?}");
        }
        let models = "models:\n  gpt-5: { input: 1250000, cached_input: 125000, output: 10000000, max_output: 4096 }\n  other: { max_output: 10 }\nunits:\n  burndown: { input: 1, output: 5 }\n";
        let without = CATALOG.replace(models, "").replace("{ name: open,", "{ name: other,");
        assert_eq!(without.len(), CATALOG.len() - models.len() + 1);
        fs::write(node.catalog_file(), without).unwrap();
        let new = |check: &Value| {
            let mut check = check.clone();
            check["reservation"]["id"] = json!("another");
            node.check(check)
        };
        let is_unknown =
            || node.check(json!({"api_key": "bob-key", "cost": {"burndown": 0}})).status == 400;
        eventually("the catalog has changed", is_unknown);
        let counted = ["alice-key", "carol-key"].map(|key| remaining(node, key));
        for (check, first) in checks.iter().zip(&first) {
            assert_eq!(new(check).status, 400, "{check}");
            let mut dry = check.clone();
            dry["dry_run"] = json!(true);
            let reserved = &first.json()["reservation"]["reserved"];
            let dry = node.check(dry);
            assert_eq!((dry.status, &dry.json()["reservation"]["reserved"]), (200, reserved));
            let again = node.check(check.clone());
            assert_eq!((again.status, handle(&again)), (200, handle(first)), "{check}");
            assert_eq!(again.json()["reservation"]["replayed"], true, "{check}");
        }
        assert_eq!(["alice-key", "carol-key"].map(|key| remaining(node, key)), counted);
        assert!(first.iter().all(|first| cancel(node, &handle(first)).status == 200));
        let closed = node.check(checks[0].clone());
        assert_eq!(closed.status, 400, "it is open no longer: {closed:?}");
    });
}

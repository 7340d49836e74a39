//! The parts of a key's overrides: each can be removed alone, and has to fit its plan.

use serde_json::{Value, json};

use super::overrides::{CATALOG, key_on, patch};
use super::{call, node};
use crate::support::eventually;

#[test]
fn each_part_of_an_override_is_removed_alone_and_has_to_fit_its_plan() {
    let node = node(Some(CATALOG), &[]);
    let limits =
        json!([{"name": "calls", "unit": "calls", "throttle": {"rate": "1/s", "burst": 5}}]);
    let plan = json!({"name": "q", "tags": {"_custom_id_": "q"}, "limits": limits});
    call(&node, "POST", "/usageplans", plan);
    let tokens = json!({"tokens": {"quota": {"limit": 7}}});
    let throttle = json!({"rateLimit": 2.0, "burstLimit": 9});
    let whole = json!({"throttle": throttle, "quota": {"limit": 8}, "limits": tokens});
    let (id, _) = key_on(&node, "p", &json!({}));
    for (path, rest) in [
        (
            "/p/throttle/rateLimit",
            json!({"throttle": {"burstLimit": 9}, "quota": {"limit": 8}, "limits": tokens}),
        ),
        (
            "/p/throttle/burstLimit",
            json!({"throttle": {"rateLimit": 2.0}, "quota": {"limit": 8}, "limits": tokens}),
        ),
        ("/p/throttle", json!({"quota": {"limit": 8}, "limits": tokens})),
        ("/p/quota", json!({"throttle": throttle, "limits": tokens})),
        ("/p/limits", json!({"throttle": throttle, "quota": {"limit": 8}})),
        ("/p", Value::Null),
        ("", Value::Null),
    ] {
        let all = json!({"p": whole}).to_string();
        let path = format!("/overrides{path}");
        let answer = patch(&node, &id, &[("replace", "/overrides", &all), ("remove", &path, "")]);
        assert_eq!((answer.status, &answer.json()["overrides"]["p"]), (200, &rest), "{path}");
    }
    let both = [
        ("add", "/overrides/p/throttle/burstLimit", "9"),
        ("remove", "/overrides/p/throttle/burstLimit", ""),
    ];
    let answer = patch(&node, &id, &both);
    assert_eq!((answer.status, &answer.json()["overrides"]), (200, &Value::Null));
    let quota = [("add", "/overrides/q/limits/calls", r#"{"quota":{"limit":5}}"#)];
    let refused = patch(&node, &id, &quota);
    assert!(refused.status == 400 && refused.body.contains("is a throttle"), "{refused:?}");
    let elsewhere =
        CATALOG.replace("plans: [p] }", "plans: [], overrides: { p: { quota: { limit: 7 } } } }");
    std::fs::write(node.catalog_file(), elsewhere).unwrap();
    eventually("the file is refused", || {
        node.log().contains("keys[0].overrides.p: the key is not on this plan")
    });
}

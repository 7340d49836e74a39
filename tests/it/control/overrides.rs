//! A key's overrides, of the file and of the API: in checks and usage.

use serde_json::{Value, json};

use super::usage::{days, today};
use super::{TOKEN, as_bearer, call, node};
use crate::support::eventually;
use crate::support::http::Response;
use crate::support::node::Node;

pub const CATALOG: &str = r"
version: 1
plans:
  - id: p
    throttle: { rate: 1/d, burst: 6 }
    quota: { limit: 5, period: day }
    limits: [ { name: tokens, unit: total_tokens, quota: { limit: 100, period: month } } ]
keys: [ { id: plain, value: key-plain, plans: [p] } ]
";

pub fn patch(node: &Node, key: &str, operations: &[(&str, &str, &str)]) -> Response {
    let operations: Vec<Value> = operations
        .iter()
        .map(|(op, path, value)| json!({"op": op, "path": path, "value": value}))
        .collect();
    let body = json!({"patchOperations": operations}).to_string();
    as_bearer(node, TOKEN, "PATCH", &format!("/apikeys/{key}"), &body)
}

/// The sizes of the limits that a check with cost 0 is judged by, and the rest of each.
pub fn sizes_and_rest(node: &Node, value: &str) -> Vec<(u64, u64)> {
    let answer = node.check(json!({"api_key": value, "cost": 0}));
    let limits = answer.json()["limits"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
    let number = |limit: &Value, member: &str| limit[member].as_u64().unwrap();
    limits.iter().map(|limit| (number(limit, "limit"), number(limit, "remaining"))).collect()
}

pub fn key_on(node: &Node, plan: &str, overrides: &Value) -> (String, String) {
    let key = call(node, "POST", "/apikeys", json!({"enabled": true, "overrides": overrides}));
    let text = |member: &str| key[member].as_str().unwrap().to_owned();
    let link = json!({"keyId": key["id"], "keyType": "API_KEY"});
    call(node, "POST", &format!("/usageplans/{plan}/keys"), link);
    (text("id"), text("value"))
}

pub fn overrides_are_in_effect(one: &Node, other: &Node) {
    let (id, value) = key_on(one, "p", &json!({"p": {"throttle": {"burstLimit": 9}}}));
    let path = format!("/apikeys/{id}");
    let shown = || call(one, "GET", &path, Value::Null)["overrides"].clone();
    let both_have = |sizes: &[(u64, u64)]| {
        assert_eq!(sizes_and_rest(one, &value), sizes);
        eventually("the other node has the sizes", || sizes_and_rest(other, &value) == sizes);
    };
    let used = |unit: &str| days(one, "p", &id, unit, today(0))[0];
    assert_eq!(shown(), json!({"p": {"throttle": {"burstLimit": 9}}}));
    both_have(&[(9, 9), (5, 5), (100, 100)]);
    assert_eq!(sizes_and_rest(one, "key-plain"), [(6, 6), (5, 5), (100, 100)]);
    let cost = json!({"requests": 4, "total_tokens": 90});
    assert_eq!(one.check(json!({"api_key": value, "cost": cost})).status, 200);
    assert_eq!((used("requests"), used("total_tokens")), ([4, 1], [90, 10]));
    let more = [
        ("replace", "/overrides/p/throttle/rateLimit", "0.001"),
        ("replace", "/overrides/p/throttle/burstLimit", "10"),
        ("replace", "/overrides/p/quota/limit", "8"),
        ("add", "/overrides/p/limits/tokens", r#"{"quota":{"limit":150}}"#),
    ];
    assert_eq!(patch(one, &id, &more).status, 200);
    // The counters are kept.
    both_have(&[(10, 6), (8, 4), (150, 60)]);
    assert_eq!((used("requests"), used("total_tokens")), ([4, 4], [90, 60]));
    // A page has the rest by the key's own quota, and by the plan's for other keys.
    let page = call(one, "GET", "/usageplans/p/usage", Value::Null);
    let rest = |key: &str| page["values"][key].as_array().unwrap().last().unwrap()[1].clone();
    assert_eq!((rest(&id), rest("plain")), (json!(4), json!(5)));
    // Corrections apply to the key's own quota.
    let correction =
        json!({"patchOperations": [{"op": "replace", "path": "/remaining", "value": "7"}]});
    call(one, "PATCH", &format!("/usageplans/p/keys/{id}/usage"), correction);
    assert_eq!((used("requests"), sizes_and_rest(one, &value)[1]), ([4, 7], (8, 7)));
    for (path, sizes) in [
        ("/overrides/p/throttle/burstLimit", [(6, 2), (8, 7), (150, 60)]),
        ("/overrides/p/throttle", [(6, 2), (8, 7), (150, 60)]),
        ("/overrides/p/limits/tokens", [(6, 2), (8, 7), (100, 10)]),
        ("/overrides/p/quota/limit", [(6, 2), (5, 4), (100, 10)]),
    ] {
        assert_eq!(patch(one, &id, &[("remove", path, "")]).status, 200);
        both_have(&sizes);
    }
    assert_eq!(shown(), Value::Null);
    let all = r#"{"p":{"quota":{"limit":6}}}"#;
    assert_eq!(patch(one, &id, &[("replace", "/overrides", all)]).status, 200);
    both_have(&[(6, 2), (6, 5), (100, 10)]);
    assert_eq!(patch(one, &id, &[("remove", "/overrides/p", "")]).status, 200);
    assert_eq!(shown(), Value::Null);
}

#[test]
fn overrides_are_in_effect_in_the_embedded_mode() {
    let node = node(Some(CATALOG), &[]);
    overrides_are_in_effect(&node, &node);
}

#[test]
fn overrides_of_the_files_keys_keep_their_counters() {
    let node = node(Some(CATALOG), &[]);
    let check = |cost: u64| node.check(json!({"api_key": "key-plain", "cost": cost})).status;
    assert_eq!(check(5), 200);
    assert_eq!(check(1), 429);
    let own = "overrides: { p: { throttle: { rate: 2/d }, quota: { limit: 7 }, limits: { tokens: { quota: { limit: 1 } } } } } }";
    std::fs::write(
        node.catalog_file(),
        CATALOG.replace("plans: [p] }", &format!("plans: [p], {own}")),
    )
    .unwrap();
    eventually("the override is in use", || {
        sizes_and_rest(&node, "key-plain") == [(6, 1), (7, 2), (1, 1)]
    });
    assert_eq!(days(&node, "p", "plain", "requests", today(0))[0], [5, 2]);
    assert_eq!(check(1), 200);
}

#[test]
fn an_override_that_does_not_fit_its_plan_is_refused_and_one_that_no_longer_fits_is_ignored() {
    let node = node(Some(CATALOG), &[]);
    let (id, value) = key_on(&node, "p", &json!({"p": {"quota": {"limit": 9}}}));
    for (path, op_value, named) in [
        ("/overrides/none/quota/limit", "5", "overrides.none: there is no plan `none`"),
        ("/overrides/p/quota/limit", "0", "overrides.p.quota.limit"),
        ("/overrides/p/quota/limit", "much", "`much`"),
        ("/overrides/p/quota/period", "5", "/overrides/p/quota/period"),
        ("/overrides/p/throttle/rateLimit", "0", "rateLimit above 0"),
        ("/overrides/p/throttle/burstLimit", "0", "overrides.p: throttle: the burst is 0"),
        ("/overrides/p/throttle/burstLimit", "-1", "burst"),
        ("/overrides/p/limits/tpm", r#"{"quota":{"limit":5}}"#, "no limit `tpm`"),
        ("/overrides/p/limits/tokens", r#"{"throttle":{"burst":5}}"#, "is a quota"),
        ("/overrides/p/limits/tokens", r#"{"throttle":{}}"#, "overrides.p.limits.tokens"),
        ("/overrides/p/limits/tokens", r#"{"size":5}"#, "size"),
        ("/overrides/p/limits/tokens", "5", "overrides.p.limits.tokens"),
        ("/overrides/p/limits/quota", r#"{"quota":{"limit":5}}"#, "overrides.p.limits.quota"),
        ("/overrides", "[]", "/overrides"),
    ] {
        let answer = patch(&node, &id, &[("replace", path, op_value)]);
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(named), "{path}: {message}");
    }
    let wrong = json!({"overrides": {"p": {"limits": {"x": {"quota": {"limit": 1}}}}}}).to_string();
    assert_eq!(as_bearer(&node, TOKEN, "POST", "/apikeys", &wrong).status, 400);
    assert_eq!(sizes_and_rest(&node, &value), [(6, 6), (9, 9), (100, 100)]);
    let without = CATALOG.replace("    quota: { limit: 5, period: day }\n", "");
    std::fs::write(node.catalog_file(), without).unwrap();
    eventually("the plan has no quota", || sizes_and_rest(&node, &value) == [(6, 6), (100, 100)]);
    let log = node.log();
    let warned = |line: &&str| line.contains("WARN") && line.contains("no limit `quota`");
    assert_eq!(log.lines().filter(warned).count(), 1, "{log}");
    // An override that no longer fits does not prevent other changes of the key.
    let renamed = patch(&node, &id, &[("replace", "/name", "x")]);
    assert_eq!(renamed.status, 200);
    // Nor does it prevent other overrides: only new ones have to fit their plan.
    call(&node, "POST", "/usageplans", json!({"name": "q", "tags": {"_custom_id_": "q"}}));
    let other = patch(&node, &id, &[("replace", "/overrides/q/throttle/burstLimit", "5")]);
    assert_eq!(other.status, 400, "{other:?}");
    assert!(!other.body.contains("overrides.p"), "{other:?}");
    // The response for the key names it.
    let ignored = json!(["overrides.p: the plan has no limit `quota`"]);
    let one = call(&node, "GET", &format!("/apikeys/{id}"), Value::Null);
    let all = call(&node, "GET", "/apikeys?name=x", Value::Null)["item"][0].clone();
    for response in [renamed.json(), one, all] {
        assert_eq!(
            (&response["id"], &response["ignoredOverrides"]),
            (&json!(id), &ignored),
            "{response}"
        );
    }
    assert_eq!(sizes_and_rest(&node, &value), [(6, 6), (100, 100)]);
}

#[test]
fn overrides_of_a_deleted_plan_are_shown_as_ignored_and_those_that_fit_are_not() {
    let node = node(Some(CATALOG), &[]);
    let plan =
        json!({"name": "q", "tags": {"_custom_id_": "q"}, "quota": {"limit": 3, "period": "DAY"}});
    call(&node, "POST", "/usageplans", plan);
    let sizes = json!({"p": {"quota": {"limit": 9}}, "q": {"quota": {"limit": 4}}});
    let (id, _) = key_on(&node, "q", &sizes);
    let shown = || call(&node, "GET", &format!("/apikeys/{id}"), Value::Null);
    assert_eq!((&shown()["overrides"], &shown()["ignoredOverrides"]), (&sizes, &Value::Null));
    call(&node, "DELETE", "/usageplans/q", Value::Null);
    assert_eq!(shown()["ignoredOverrides"], json!(["overrides.q: there is no plan `q`"]));
    let answer = patch(&node, &id, &[("remove", "/overrides/q", "")]);
    assert_eq!((answer.status, &answer.json()["ignoredOverrides"]), (200, &Value::Null));
}

#[test]
fn a_rounded_rate_of_an_override_is_accepted_and_logged_when_it_is_used() {
    let own = "overrides: { p: { throttle: { rate: 7/min, burst: 1000000000 } } }";
    let file = CATALOG.replace("plans: [p] }", &format!("plans: [p], {own}}}"));
    let node = node(Some(&file), &[]);
    let warnings = |at: &str| {
        let at = format!("{at}: the rate ");
        let is_warning =
            |line: &&str| line.contains("WARN") && line.contains(&at) && line.contains("slower by");
        node.log().lines().filter(is_warning).count()
    };
    // The file's warning is logged when it is read, and not again at the key's first check.
    assert_eq!(sizes_and_rest(&node, "key-plain")[0], (1_000_000_000, 1_000_000_000));
    let throttle = json!({"rateLimit": 0.7, "burstLimit": 1_000_000_000});
    let plan = json!({"name": "q", "tags": {"_custom_id_": "q"}, "throttle": throttle});
    assert_eq!(call(&node, "POST", "/usageplans", plan)["throttle"], throttle);
    eventually("the plan's is logged", || warnings("plans[1].throttle") == 1);
    let sizes =
        json!({"q": {"throttle": {"burstLimit": 2_000_000_000}}, "p": {"throttle": throttle}});
    let (id, value) = key_on(&node, "q", &sizes);
    assert_eq!(
        patch(&node, &id, &[("replace", "/overrides/q/throttle/rateLimit", "0.3")]).status,
        200
    );
    let shown = call(&node, "GET", &format!("/apikeys/{id}"), Value::Null);
    assert_eq!(
        shown["overrides"]["q"],
        json!({"throttle": {"rateLimit": 0.3, "burstLimit": 2_000_000_000}})
    );
    assert_eq!(shown["ignoredOverrides"], Value::Null);
    for _ in 0..3 {
        assert_eq!(sizes_and_rest(&node, &value), [(2_000_000_000, 2_000_000_000)]);
    }
    eventually("the override's is logged", || warnings(" why=\"overrides.q.throttle") == 1);
    assert_eq!(warnings("overrides.p.throttle"), warnings("keys[0].overrides.p.throttle"));
}

//! The admin API shows the resources of the catalog file beside its own.

use serde_json::{Value, json};

use super::{TOKEN, as_bearer, call, node};
use crate::support::node::Node;

pub const CATALOG: &str = r#"
version: 1
apis:
  - id: m-api
    stages: [ { name: prod, throttle: { rate: 60/min, burst: 3 }, methods: { "GET /pets": { throttle: { rate: 2, burst: 2 } }, "*": { throttle: { rate: 5/s, burst: 5 } } } } ]
plans:
  - id: m-plan
    api_stages: [ { api: m-api, stage: prod, methods: { "POST /pets": { throttle: { rate: 1/s, burst: 1 } } } } ]
    throttle: { rate: 30/min, burst: 4 }
    quota: { limit: 9, period: week, starts_on: tuesday, time_zone: Europe/Berlin }
    limits: [ { name: tpm, unit: total_tokens, throttle: { rate: 7/min, burst: 7 } } ]
    mode: shadow
keys:
  - { id: b-key, value: the-value-of-the-key-b, plans: [m-plan], customer_id: c, overrides: { m-plan: { throttle: { rate: 90/min }, quota: { limit: 99 } } } }
  - { id: d-key, value: the-value-of-the-key-d, plans: [], enabled: false }
"#;

/// All ids of a list, read in pages of two.
fn ids(node: &Node, path: &str) -> Vec<String> {
    let (mut ids, mut position) = (Vec::new(), String::new());
    loop {
        let page = call(node, "GET", &format!("{path}?limit=2&position={position}"), Value::Null);
        let items = page["item"].as_array().unwrap();
        assert!(items.len() <= 2);
        let id = |item: &Value| {
            format!(
                "{}{}",
                item["id"].as_str().unwrap(),
                item["owner"].as_str().map_or("", |_| "*")
            )
        };
        ids.extend(items.iter().map(id));
        match page["position"].as_str() {
            Some(next) => next.clone_into(&mut position),
            None => return ids,
        }
    }
}

pub fn both_are_shown(node: &Node) {
    for id in ["a-key", "c-key", "e-key"] {
        let key = call(node, "POST", "/apikeys", json!({"tags": {"_custom_id_": id}}));
        let link = json!({"keyId": key["id"], "keyType": "API_KEY"});
        call(node, "POST", "/usageplans/m-plan/keys", link);
    }
    for id in ["a", "z"] {
        let named = json!({"name": id, "tags": {"_custom_id_": id}});
        call(node, "POST", "/usageplans", named.clone());
        call(node, "POST", "/restapis", named);
    }
    assert_eq!(ids(node, "/apikeys"), ["a-key", "b-key*", "c-key", "d-key*", "e-key"]);
    assert_eq!(ids(node, "/usageplans/m-plan/keys"), ["a-key", "b-key*", "c-key", "e-key"]);
    assert_eq!(ids(node, "/usageplans"), ["a", "m-plan*", "z"]);
    assert_eq!(ids(node, "/restapis"), ["a", "m-api*", "z"]);
    let get = |path: &str| call(node, "GET", path, Value::Null);
    let mut key = get("/apikeys/b-key?includeValue=true");
    let changed = std::fs::metadata(node.catalog_file()).unwrap().modified().unwrap();
    let changed = json!(changed.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
    for date in ["createdDate", "lastUpdatedDate"] {
        assert_eq!(key.as_object_mut().unwrap().remove(date).as_ref(), Some(&changed), "{date}");
    }
    let expected = json!({
        "id": "b-key", "enabled": true, "customerId": "c", "stageKeys": [], "owner": "file",
        "overrides": {"m-plan": {"throttle": {"rateLimit": 1.5}, "quota": {"limit": 99}}},
    });
    assert_eq!(key, expected);
    assert_eq!(get("/usageplans/m-plan/keys/b-key")["owner"], "file");
    let plan = get("/usageplans/m-plan");
    let expected = json!({
        "id": "m-plan", "name": "m-plan", "owner": "file", "mode": "shadow",
        "consistency": "exact", "onStoreFailure": "open", "alongside": false,
        "throttle": {"rateLimit": 0.5, "burstLimit": 4},
        "quota": {"limit": 9, "period": "WEEK", "offset": 2, "timeZone": "Europe/Berlin"},
        "limits": [{"name": "tpm", "unit": "total_tokens", "throttle": {"rate": "7/min", "burst": 7}}],
        "apiStages": [{"apiId": "m-api", "stage": "prod", "throttle": {"/pets/POST": {"rateLimit": 1.0, "burstLimit": 1}}}],
    });
    assert_eq!(plan, expected);
    let stage = get("/restapis/m-api/stages/prod");
    assert_eq!(get("/restapis/m-api/stages")["item"], json!([stage]));
    assert_eq!((&stage["createdDate"], &stage["owner"]), (&changed, &json!("file")));
    assert_eq!(get("/restapis/m-api")["createdDate"], changed);
    assert_eq!(stage["throttle"], json!({"rateLimit": 1.0, "burstLimit": 3}));
    assert_eq!(stage["methodSettings"]["~1pets/GET"]["throttlingRateLimit"], 2.0);
    assert_eq!(stage["methodSettings"]["*/*"]["throttlingBurstLimit"], 5);
    for path in ["/apikeys?includeValues=true", "/apikeys/b-key?includeValue=true"] {
        let body = as_bearer(node, TOKEN, "GET", path, "").body;
        assert!(!body.contains("the-value"), "{body}");
    }
    no_request_changes_the_files_resources(node);
}

/// Sends every request that could change the file's resources, or add to them.
fn no_request_changes_the_files_resources(node: &Node) {
    const RENAME: &str =
        r#"{"patchOperations":[{"op":"replace","path":"/description","value":"x"}]}"#;
    const TAGS: &str = r#"{"tags":{"a":"b"}}"#;
    // A plan of the API serves a stage of the file, but that is not the reason for the refusals.
    let serve =
        json!({"patchOperations": [{"op": "add", "path": "/apiStages", "value": "m-api:prod"}]});
    call(node, "PATCH", "/usageplans/a", serve);
    let everything = || {
        let paths = [
            "/apikeys",
            "/usageplans",
            "/usageplans/m-plan/keys",
            "/restapis",
            "/restapis/m-api/stages",
        ];
        paths.map(|path| call(node, "GET", path, Value::Null))
    };
    let before = everything();
    for (method, path, body) in [
        ("DELETE", "/apikeys/b-key", ""),
        ("PATCH", "/apikeys/b-key", "{}"),
        ("PATCH", "/apikeys/b-key", RENAME),
        ("POST", "/apikeys/b-key/rotate", r#"{"overlapSeconds":0}"#),
        ("POST", "/apikeys", r#"{"tags":{"_custom_id_":"b-key"}}"#),
        ("POST", "/usageplans/a/keys", r#"{"keyId":"b-key","keyType":"API_KEY"}"#),
        ("DELETE", "/usageplans/m-plan/keys/b-key", ""),
        ("DELETE", "/usageplans/m-plan", ""),
        ("PATCH", "/usageplans/m-plan", RENAME),
        ("POST", "/usageplans", r#"{"name":"x","tags":{"_custom_id_":"m-plan"}}"#),
        ("DELETE", "/restapis/m-api", ""),
        ("PATCH", "/restapis/m-api", RENAME),
        ("POST", "/restapis", r#"{"name":"x","tags":{"_custom_id_":"m-api"}}"#),
        ("DELETE", "/restapis/m-api/stages/prod", ""),
        ("PATCH", "/restapis/m-api/stages/prod", RENAME),
        ("POST", "/restapis/m-api/stages", r#"{"stageName":"other","deploymentId":"d"}"#),
        ("POST", "/restapis/m-api/deployments", r#"{"stageName":"other"}"#),
        ("POST", "/restapis/m-api/resources/root", r#"{"pathPart":"x"}"#),
        ("PUT", "/tags/arn:aws:apigateway:local::%2Frestapis%2Fm-api", TAGS),
        ("PUT", "/tags/arn:aws:apigateway:local::%2Frestapis%2Fm-api%2Fstages%2Fprod", TAGS),
        ("PUT", "/tags/arn:aws:apigateway:local::%2Fusageplans%2Fm-plan", TAGS),
        ("PUT", "/tags/arn:aws:apigateway:local::%2Fapikeys%2Fb-key", TAGS),
    ] {
        let answer = as_bearer(node, TOKEN, method, path, body);
        assert_eq!(answer.status, 409, "{method} {path}: {answer:?}");
        let kind = answer.header("x-amzn-errortype");
        assert_eq!(kind, Some("ConflictException"), "{method} {path}");
        // The response to an existing value or id says nothing more about it.
        let is_explained = answer.body.contains("catalog file") || path == "/apikeys";
        assert!(is_explained, "{method} {path}: {answer:?}");
    }
    assert_eq!(everything(), before);
    let asked =
        node.check(json!({"api_key": "the-value-of-the-key-b", "api": "m-api", "stage": "prod"}));
    assert_ne!(asked.status, 403, "{asked:?}");
    // A resource that does not exist is not found, and not the file's.
    let unserved =
        r#"{"patchOperations":[{"op":"remove","path":"/apiStages","value":"m-api:none"}]}"#;
    for (method, path, body) in [
        ("PATCH", "/usageplans/a", unserved),
        ("PATCH", "/usageplans/none", RENAME),
        ("DELETE", "/restapis/none", ""),
        ("DELETE", "/restapis/a/stages/none", ""),
        ("DELETE", "/apikeys/none", ""),
    ] {
        let answer = as_bearer(node, TOKEN, method, path, body);
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
    }
}

#[test]
fn the_files_resources_are_listed_among_the_apis_in_the_embedded_mode() {
    both_are_shown(&node(Some(CATALOG), &[]));
}

#[test]
fn each_setting_of_the_file_is_shown_in_awss_form() {
    const SETTINGS: &str = r#"
version: 1
apis:
  - id: m-api
    stages: [ { name: prod, consistency: leased, throttle: { rate: 900, burst: 900 }, methods: { "GET /~me/x": { throttle: { rate: 2, burst: 2 } } } } ]
plans:
  - id: monthly
    api_stages: [ { api: m-api, stage: prod, methods: { "*": { throttle: { rate: 1/s, burst: 1 } } } } ]
    quota: { limit: 9, period: month, starts_on: 15 }
  - { id: weekly, quota: { limit: 9, period: week } }
keys:
  - { id: k, value: the-value-of-the-key-k, name: K, plans: [monthly], expires_at: "2031-01-31T01:00:00+01:00" }
"#;
    let node = node(Some(SETTINGS), &[]);
    let get = |path: &str| call(&node, "GET", path, Value::Null);
    let quota = |plan: &str| get(&format!("/usageplans/{plan}"))["quota"].clone();
    assert_eq!(quota("monthly"), json!({"limit": 9, "period": "MONTH", "offset": 14}));
    // A week begins on Monday by default; AWS counts days from Sunday.
    assert_eq!(quota("weekly"), json!({"limit": 9, "period": "WEEK", "offset": 1}));
    let served = &get("/usageplans/monthly")["apiStages"][0]["throttle"];
    assert_eq!(*served, json!({"/*/*": {"rateLimit": 1.0, "burstLimit": 1}}));
    let stage = get("/restapis/m-api/stages/prod");
    assert_eq!(stage["consistency"], "leased");
    assert_eq!(stage["methodSettings"]["~1~0me~1x/GET"]["throttlingRateLimit"], 2.0);
    let key = get("/apikeys/k");
    assert_eq!((&key["name"], &key["expiresAt"]), (&json!("K"), &json!("2031-01-31T00:00:00Z")));
}

#[test]
fn the_built_in_example_is_not_shown_as_a_file() {
    let node = node(None, &[]);
    for path in ["/apikeys", "/usageplans", "/restapis"] {
        assert!(ids(&node, path).is_empty());
    }
}

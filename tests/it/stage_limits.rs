//! Further limits of a whole stage, in any unit, of the file and of the API.

use serde_json::{Value, json};
use tollgate::catalog::{Catalog, CounterPlacement};

use crate::support::http;
use crate::support::node::Node;

const CATALOG: &str = r#"
version: 1
apis:
  - id: inference
    stages:
      - name: prod
        throttle: { rate: 1/h, burst: 50 }
        methods: { "POST /chat": { throttle: { rate: 1/h, burst: 40 } } }
        limits:
          - { name: gpu, unit: gpu_seconds, throttle: { rate: 1/h, burst: 100 } }
          - { name: tokens, unit: total_tokens, quota: { limit: 1000, period: day } }
          - { name: tried, unit: requests, throttle: { rate: 1/h, burst: 1 }, mode: shadow }
plans: [ { id: free, throttle: { rate: 1/h, burst: 30 } } ]
keys:
  - { id: alice, value: alice-key, plans: [free] }
  - { id: bob, value: bob-key, plans: [free] }
"#;

fn check(node: &Node, key: &str, cost: &Value) -> (u16, Value) {
    let answer = node.check(json!({
        "api_key": key, "api": "inference", "stage": "prod", "method": "POST", "path": "/chat",
        "cost": cost,
    }));
    (answer.status, answer.json())
}

/// The name and the remaining units of each limit, in the order of judging.
fn limits(answer: &Value) -> Vec<(String, u64)> {
    let limits = answer["limits"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let name_and_rest = |limit: &Value| {
        (limit["name"].as_str().unwrap().to_owned(), limit["remaining"].as_u64().unwrap())
    };
    limits.iter().map(name_and_rest).collect()
}

#[test]
fn all_clients_share_them_and_they_are_judged_last_behind_the_stages_throttle() {
    let node = Node::with_catalog(CATALOG, &[]);
    let (status, answer) = check(&node, "alice-key", &json!({"gpu_seconds": 60}));
    assert_eq!(status, 200, "{answer}");
    let expected = [
        ("free/throttle", 29),
        ("stage:inference/prod/POST /chat/throttle", 39),
        ("stage:inference/prod/throttle", 49),
        ("stage:inference/prod/gpu", 40),
        ("stage:inference/prod/tokens", 1000),
        ("stage:inference/prod/tried", 0),
    ];
    assert_eq!(limits(&answer), expected.map(|(name, rest)| (name.to_owned(), rest)));
    let (status, answer) = check(&node, "bob-key", &json!({"gpu_seconds": 41}));
    assert_eq!(
        (status, &answer["violated"]),
        (429, &json!("stage:inference/prod/gpu")),
        "another client meets what is left: {answer}"
    );
    let (status, answer) = check(&node, "bob-key", &json!({"total_tokens": 1000}));
    assert_eq!(status, 200, "the shadow limit refuses nothing: {answer}");
    assert_eq!(answer["limits"][5]["shadow"], true, "{answer}");
    let (status, answer) = check(&node, "alice-key", &json!({"total_tokens": 1}));
    assert_eq!((status, &answer["violated"]), (429, &json!("stage:inference/prod/tokens")));
    assert_eq!(check(&node, "alice-key", &json!({"gpu_seconds": 101})).0, 422);
    assert_eq!(check(&node, "alice-key", &json!({"gpu_second": 1})).0, 400, "an unknown unit");
}

fn faults(catalog: &str) -> String {
    Catalog::parse(catalog, "c").err().unwrap().errors().join("\n")
}

#[test]
fn an_invalid_one_is_an_error_that_names_its_place() {
    for (from, to, expected) in [
        ("name: gpu", "name: throttle", "apis[0].stages[0].limits[0].name: `throttle`"),
        ("name: tokens", "name: gpu", "apis[0].stages[0].limits[1].name: the limit `gpu`"),
        ("name: gpu", "name: a/b", "apis[0].stages[0].limits[0].name: a name has"),
        ("quota: {", "throttle: { rate: 1/s, burst: 1 }, quota: {", "apis[0].stages[0].limits[1]"),
        ("burst: 100", "burst: 0", "apis[0].stages[0].limits[0].throttle"),
        ("unit: gpu_seconds", "per: gpu_seconds", "apis[0].stages[0].limits[0].per: `per` is"),
        ("limits:\n", "limits: [[gpu]]\n        more:\n", "apis[0].stages[0].limits[0]: expected"),
    ] {
        let text = CATALOG.replacen(from, to, 1);
        assert_ne!(text, CATALOG, "{from}");
        let text = faults(&text);
        assert!(text.contains(expected), "{to}: {text}");
    }
}

#[test]
fn more_limits_than_a_check_can_be_judged_by_are_an_error() {
    let limit = |n: u32| format!("{{ name: n{n}, unit: u, quota: {{ limit: 1, period: day }} }}");
    let catalog = |count: u32| {
        let limits = (0..count).map(limit).collect::<Vec<_>>().join(", ");
        let stage = format!("{{ name: s, throttle: {{ rate: 1, burst: 1 }}, limits: [{limits}] }}");
        format!("version: 1\napis: [{{ id: a, stages: [{stage}] }}]\n")
    };
    assert!(Catalog::parse(&catalog(249), "c").is_ok());
    let text = faults(&catalog(250));
    assert!(text.contains("apis[0].stages[0].limits: a check is judged by at most 250"), "{text}");
}

#[test]
fn on_a_cluster_they_must_be_leased_and_a_quota_cannot_be() {
    let catalog = Catalog::parse(CATALOG, "c").unwrap();
    let placement = CounterPlacement::PerSubject { leases: true };
    let errors = catalog.check_placement(placement, "c").unwrap_err();
    let of = |limit: &str| {
        let error = errors.errors().iter().find(|error| error.contains(limit));
        error.unwrap_or_else(|| panic!("{errors}")).as_str()
    };
    assert!(of("stage:inference/prod/gpu").contains("consistency: leased"), "{errors}");
    assert!(of("stage:inference/prod/tokens").contains("a quota cannot be leased"), "{errors}");
    let leased = CATALOG
        .replace("methods:", "consistency: leased\n        methods:")
        .replace("quota: { limit: 1000, period: day }", "throttle: { rate: 1000/d, burst: 1000 }");
    assert!(Catalog::parse(&leased, "c").unwrap().check_placement(placement, "c").is_ok());
}

#[test]
fn the_api_sets_patches_shows_and_removes_them() {
    let access =
        [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", "a-token-for-tests")];
    let node = Node::launch(Some(CATALOG), &[], &access);
    let send = |method: &str, path: &str, body: Value| {
        let headers =
            [("authorization", "Bearer a-token-for-tests"), ("content-type", "application/json")];
        http::send(node.admin(), method, path, &headers, &body.to_string())
    };
    send("POST", "/restapis", json!({"name": "a", "tags": {"_custom_id_": "own"}}));
    send("POST", "/restapis/own/deployments", json!({"stageName": "prod"}));
    let stage = "/restapis/own/stages/prod";
    let patch = |op: &str, value: Option<String>| {
        let operation = json!({"op": op, "path": "/limits", "value": value});
        send("PATCH", stage, json!({"patchOperations": [operation]}))
    };
    let limits =
        json!([{"name": "gpu", "unit": "gpu_seconds", "throttle": {"rate": "1/h", "burst": 7}}]);
    let answer = patch("replace", Some(limits.to_string()));
    assert_eq!((answer.status, &answer.json()["limits"]), (200, &limits), "{answer:?}");
    assert_eq!(send("GET", stage, Value::Null).json()["limits"], limits);
    let judged = || {
        let answer =
            node.check(json!({"api_key": "alice-key", "api": "own", "stage": "prod", "cost": 0}));
        limits_of_stage(&answer.json())
    };
    assert_eq!(judged(), ["stage:own/prod/gpu"]);
    for (value, expected) in [
        ("[{\"name\": \"gpu\"}]", "limits[0]"),
        ("[7]", "the stage prod: limits[0]: expected an object"),
        ("{}", "write a JSON array"),
        ("gpu", "write a JSON array"),
    ] {
        let answer = patch("replace", Some(value.into()));
        assert!(answer.status == 400 && answer.body.contains(expected), "{value}: {answer:?}");
    }
    assert_eq!(judged(), ["stage:own/prod/gpu"], "a refused patch changes nothing");
    let shown = send("GET", "/restapis/inference/stages/prod", Value::Null).json();
    assert_eq!(shown["limits"][1]["quota"]["limit"], 1000, "the file's: {shown}");
    assert_eq!(patch("remove", None).status, 200);
    assert_eq!(judged(), [""; 0]);
}

/// The names of the stage's limits among those that judged a check.
fn limits_of_stage(answer: &Value) -> Vec<String> {
    let names = limits(answer).into_iter().map(|(name, _)| name);
    names.filter(|name| name.starts_with("stage:")).collect()
}

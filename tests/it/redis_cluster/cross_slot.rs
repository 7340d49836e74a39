//! Checks whose subjects lie on different primaries: shared limits must be leased, exact limits
//! must belong to one subject, and a refused check consumes nothing.
//! Needs programs besides Rust, so `make fast` skips it.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::support::eventually;

const SHARED: &str = r#"
version: 1
apis:
  - id: a
    stages:
      - { name: small, throttle: { rate: 1/h, burst: 6 }, consistency: leased }
      - { name: busy, throttle: { rate: 2000/s, burst: 1000 }, consistency: leased }
      - { name: each, methods: { "*": { throttle: { rate: 1/h, burst: 4 } } }, consistency: leased }
plans:
  - { id: two, throttle: { rate: 1/h, burst: 2 }, on_store_failure: closed }
  - { id: vast, throttle: { rate: 1000000/s, burst: 1000000 }, quota: { limit: 100000000, period: day }, on_store_failure: closed }
keys:
  - { id: a, value: key-a, plans: [two] }
  - { id: b, value: key-b, plans: [two] }
  - { id: c, value: key-c, plans: [two] }
  - { id: d, value: key-d, plans: [two] }
  - { id: v, value: key-v, plans: [vast] }
policies:
  - { name: exact, throttle: { rate: 1/h, burst: 5 } }
  - { name: tried, throttle: { rate: 1/h, burst: 1 }, consistency: leased, mode: shadow }
  - { name: lent, throttle: { rate: 1/h, burst: 5 }, consistency: leased }
"#;

fn check_with_key(node: &Node, key: &str, stage: &str) -> (u16, Value) {
    let answer = node
        .check(json!({"api_key": key, "api": "a", "stage": stage, "method": "GET", "path": "/x"}));
    (answer.status, answer.json())
}

/// The remaining units of a limit, by its name.
fn remaining(answer: &Value, limit: &str) -> u64 {
    let limits = answer["limits"].as_array().unwrap();
    let limit = limits.iter().find(|judged| judged["name"] == limit);
    limit.unwrap_or_else(|| panic!("{answer}"))["remaining"].as_u64().unwrap()
}

#[test]
fn a_refused_check_consumes_nothing_of_either_subject() {
    let cluster = RedisCluster::start(0, 0);
    let nodes = [0, 1].map(|_| node_with(SHARED, &cluster, &["--denial-memo", "false"]));
    let stage = "stage:a/small/throttle";
    for (turn, left_of_stage) in [5, 4, 4, 4, 4].into_iter().enumerate() {
        let (status, answer) = check_with_key(&nodes[turn % 2], "key-a", "small");
        assert_eq!(status, if turn < 2 { 200 } else { 429 }, "{answer}");
        assert_eq!(
            remaining(&answer, stage),
            left_of_stage,
            "the key refuses, the stage keeps: {answer}"
        );
    }
    for key in ["key-b", "key-b", "key-c", "key-c"] {
        assert_eq!(check_with_key(&nodes[0], key, "small").0, 200);
    }
    for node in &nodes {
        let (status, answer) = check_with_key(node, "key-d", "small");
        assert_eq!((status, &answer["violated"]), (429, &json!(stage)), "{answer}");
        assert_eq!(
            remaining(&answer, "two/throttle"),
            2,
            "the stage refuses, the key keeps: {answer}"
        );
    }
    let alone = |_| nodes[0].check(json!({"api_key": "key-d"})).status;
    assert_eq!([0, 1, 2].map(alone), [200, 200, 429]);
    // A batch is refused in the same way as a single check.
    let check = json!({"api_key": "key-v", "api": "a", "stage": "small"});
    let answer = nodes[1].send("POST", "/check/batch", &[], &batch([check].into_iter())).json();
    assert_eq!(answer["results"][0]["violated"], stage, "{answer}");
}

#[test]
fn a_report_is_charged_to_every_subject_whichever_has_no_room() {
    let cluster = RedisCluster::start(0, 0);
    let nodes = [0, 1].map(|_| node_with(SHARED, &cluster, &["--denial-memo", "false"]));
    let asked = |node: &Node, key: &str, cost: u64, report: bool| {
        let body = json!({"api_key": key, "api": "a", "stage": "small", "cost": cost, "after_the_fact": report});
        let answer = node.check(body);
        assert_eq!(answer.status, if report { 200 } else { 429 }, "{answer:?}");
        let debts = answer.json()["limits"].as_array().unwrap().clone();
        let debts = debts.into_iter().map(|row| (row["remaining"].clone(), row["debt"].clone()));
        debts.collect::<Vec<_>>()
    };
    let in_debt = |units: u64| (json!(0), json!(units));
    let left = |units: u64| (json!(units), Value::Null);
    assert_eq!(asked(&nodes[0], "key-a", 4, true), [in_debt(2), left(2)]);
    assert_eq!(asked(&nodes[1], "key-a", 0, false), [in_debt(2), left(2)], "the stage keeps it");
    assert_eq!(asked(&nodes[1], "key-b", 1, true), [left(1), left(1)]);
    assert_eq!(asked(&nodes[0], "key-v", 5, true)[2], in_debt(4), "now the stage has none");
    assert_eq!(asked(&nodes[1], "key-c", 1, true), [left(1), in_debt(5)]);
    assert_eq!(asked(&nodes[0], "key-c", 0, false), [left(1), in_debt(5)], "the key keeps it");
}

#[test]
fn methods_that_the_catalog_does_not_list_are_shared_as_well() {
    let cluster = RedisCluster::start(0, 0);
    let nodes = [0, 1].map(|_| node_with(SHARED, &cluster, &["--denial-memo", "false"]));
    let statuses = [0, 1, 0, 1, 0, 1].map(|turn| check_with_key(&nodes[turn], "key-v", "each").0);
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
}

#[test]
fn exact_limits_of_two_subjects_cannot_be_in_one_check() {
    let cluster = RedisCluster::start(0, 0);
    let node = node_with(SHARED, &cluster, &["--denial-memo", "false"]);
    let check = |policy: &str| {
        node.check(json!({"api_key": "key-a", "policies": [{"policy": policy, "key": "u"}]}))
    };
    let answer = check("exact");
    assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("policies")), "{answer:?}");
    for words in ["two/throttle", "policy:exact/throttle", "consistency: leased"] {
        assert!(answer.body.contains(words), "{answer:?}");
    }
    // A shadow limit never refuses, and is charged for admitted requests.
    let answer = check("tried").json();
    assert_eq!(
        (remaining(&answer, "two/throttle"), &answer["limits"][1]["allowed"]),
        (1, &json!(true)),
        "{answer}"
    );
    let answer = check("tried").json();
    assert_eq!(
        (remaining(&answer, "two/throttle"), &answer["limits"][1]["allowed"]),
        (0, &json!(false)),
        "{answer}"
    );
    assert_eq!(check("lent").status, 429);
    let alone = node.check(json!({"policy": "lent", "key": "u", "cost": 5}));
    assert_eq!(alone.status, 200, "nothing of it was consumed: {alone:?}");
}

#[test]
fn a_shared_limit_stays_within_the_bound_on_two_nodes_and_loses_few_units() {
    const BURST: f64 = 1000.0;
    const RATE: f64 = 2000.0;
    /// The lifetime of a lease in seconds.
    const LEASE_LIFETIME_SECS: f64 = 0.2;
    let cluster = RedisCluster::start(0, 0);
    let nodes = [0, 1].map(|_| node_with(SHARED, &cluster, &["--min-nodes", "2"]));
    let (sent, admitted, began) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for node in nodes.iter().flat_map(|node| [node; 3]) {
            let (sent, admitted) = (&sent, &admitted);
            scope.spawn(move || {
                let mut connection = KeepAlive::open(node.address()).unwrap();
                let body = json!({"api_key": "key-v", "api": "a", "stage": "busy"}).to_string();
                while began.elapsed() < Duration::from_secs(6) {
                    let answer = connection.post("/check", &body).unwrap();
                    assert!(answer.status == 200 || answer.status == 429, "{answer:?}");
                    sent.fetch_add(1, Ordering::SeqCst);
                    let passed = usize::from(answer.status == 200);
                    let admitted = admitted.fetch_add(passed, Ordering::SeqCst) + passed;
                    let took = began.elapsed().as_secs_f64();
                    assert!(
                        admitted as f64 <= BURST + RATE * (took + LEASE_LIFETIME_SECS),
                        "{admitted} in {took} s"
                    );
                }
            });
        }
    });
    let (admitted, took) = (admitted.load(Ordering::SeqCst) as f64, began.elapsed().as_secs_f64());
    let sent = sent.load(Ordering::SeqCst) as f64;
    assert!(admitted >= 0.9 * sent.min(RATE * took), "only {admitted} of {sent} in {took} s");
}

#[test]
fn a_catalog_that_a_cluster_cannot_enforce_is_rejected_from_every_source() {
    let cluster = RedisCluster::start(0, 0);
    let (url, exact) = (cluster.url(), SHARED.replacen(", consistency: leased", "", 1));
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (good, bad) = (file("good.yaml", SHARED), file("bad.yaml", &exact));
    let refused = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate")).args(arguments).output().unwrap();
        let output = (output.status.code(), String::from_utf8(output.stderr).unwrap());
        assert!(output.0 == Some(2) && output.1.contains("stage:a/small/throttle"), "{output:?}");
        output.1
    };
    for why in [
        refused(&["serve", "--listen", "127.0.0.1:0", "--store", &url, "--catalog", &bad]),
        refused(&["validate", &bad, "--store", &url]),
    ] {
        assert!(why.contains("consistency: leased") && !why.contains("busy"), "{why}");
    }
    let record = dir.path().join("record").to_str().unwrap().to_owned();
    let why = refused(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--store",
        &url,
        "--catalog",
        &good,
        "--record",
        &record,
    ]);
    assert!(why.contains("--record"), "{why}");

    let token = [("TOLLGATE_ADMIN_TOKEN", "a-token-for-tests")];
    let flags = ["--store", &url, "--listen-admin", "127.0.0.1:0", "--check-deadline", DEADLINE];
    let node = Node::launch(Some(SHARED), &flags, &token);
    assert_eq!(check_with_key(&node, "key-a", "small").0, 200);
    fs::write(node.catalog_file(), exact).unwrap();
    eventually("the file is rejected", || node.log().contains("the catalog was not reloaded"));
    assert_eq!(check_with_key(&node, "key-a", "small").0, 200, "the catalog in use stays");

    fs::write(node.catalog_file(), SHARED).unwrap();
    let admin = |method: &str, path: &str, body: Value| {
        let headers =
            [("authorization", "Bearer a-token-for-tests"), ("content-type", "application/json")];
        crate::support::http::send(node.admin(), method, path, &headers, &body.to_string())
    };
    let api = admin("POST", "/restapis", json!({"name": "api"})).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let deployment =
        admin("POST", &format!("/restapis/{api}/deployments"), json!({})).json()["id"].clone();
    let stage = |more: Value| {
        let mut stage = json!({"stageName": "prod", "deploymentId": deployment, "throttle": {"rateLimit": 5, "burstLimit": 5}});
        stage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        admin("POST", &format!("/restapis/{api}/stages"), stage)
    };
    let answer = stage(json!({}));
    assert!(answer.status == 400 && answer.body.contains("consistency"), "{answer:?}");
    let answer = stage(json!({"consistency": "leased"}));
    assert_eq!(
        (answer.status, &answer.json()["consistency"]),
        (201, &json!("leased")),
        "{answer:?}"
    );
}

#[test]
fn all_plans_of_a_key_are_judged_together() {
    let cluster = RedisCluster::start(3, 0);
    let catalog = "version: 1\nplans:\n  - { id: base, quota: { limit: 9, period: day } }\n  - { id: more, alongside: true, quota: { limit: 3, period: day } }\nkeys: [{ id: k, value: key-k, plans: [base, more] }]";
    let node = Node::with_catalog(catalog, &["--store", &cluster.url(), "--check-deadline", "10s"]);
    let check = |cost: u64| node.check(json!({"api_key": "key-k", "cost": cost})).json();
    assert_eq!(check(3)["allowed"], true);
    assert_eq!(check(1)["violated"], "more/quota");
    assert_eq!(check(0)["limits"][0]["remaining"], 6);
}

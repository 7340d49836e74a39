//! A real Redis Cluster: the guarantees of a single primary hold on several.
//!
//! `resharding` moves slots under load and `failover` loses primaries. `cross_slot` sends checks
//! whose subjects lie on different primaries, and `envoy` does the same with Envoy's descriptors,
//! `dry_runs` without charging anything.
//! `key_policies` is the teams of API keys, `reservations` settles across primaries. `usage` is the
//! daily usage of API keys.
//! Needs programs besides Rust, so `make fast` skips it.

mod cross_slot;
mod dry_runs;
mod envoy;
mod failover;
mod key_policies;
mod reservations;
mod resharding;
mod usage;

use std::collections::HashMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use tollgate::limit::Subject;

use crate::startup::refuses_to_start;
use crate::support::http::KeepAlive;
use crate::support::node::Node;
use crate::support::redis_cluster::RedisCluster;

const CATALOG: &str = r#"
version: 1
plans:
  - id: free
    throttle: { rate: 1/h, burst: 3 }
    quota: { limit: 5, period: day }
    on_store_failure: closed
keys: [ { id: hot, value: hot-key, plans: [free] } ]
policies:
  - { name: few, throttle: { rate: 1/h, burst: 3 }, on_store_failure: closed }
  - { name: many, throttle: { rate: 1/h, burst: 1000000 }, on_store_failure: closed }
"#;
const DEADLINE: &str = "5s";

fn node(cluster: &RedisCluster, more: &[&str]) -> Node {
    node_with(CATALOG, cluster, more)
}

fn node_with(catalog: &str, cluster: &RedisCluster, more: &[&str]) -> Node {
    let url = cluster.url();
    let mut flags = vec!["--store", &url, "--drain-delay", "0s"];
    if !more.contains(&"--check-deadline") {
        flags.extend(["--check-deadline", DEADLINE]);
    }
    flags.extend(more);
    Node::with_catalog(catalog, &flags)
}

fn batch(checks: impl Iterator<Item = Value>) -> String {
    json!({"checks": checks.collect::<Vec<_>>()}).to_string()
}

fn key_of(policy: &str, key: &str) -> String {
    Subject::policy(policy, key).redis_key()
}

/// Checks every key `times`, from four threads for each of `nodes`. Returns for each key the number
/// of admitted requests.
fn check_all_keys(nodes: &[&Node], keys: usize, times: usize) -> HashMap<usize, usize> {
    let passed = Mutex::new(HashMap::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for node in nodes.iter().flat_map(|node| [node; 4]) {
            let (passed, next) = (&passed, &next);
            scope.spawn(move || {
                let mut connection = KeepAlive::open(node.address()).unwrap();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= keys * times {
                        break;
                    }
                    let key = number % keys;
                    let body = json!({"policy": "few", "key": format!("k{key}")}).to_string();
                    let answer = connection.post("/check", &body).unwrap();
                    assert!(
                        answer.body.contains(r#""decided_by":"redis""#),
                        "{answer:?} {}",
                        node.log()
                    );
                    *passed.lock().unwrap().entry(key).or_default() +=
                        usize::from(answer.status == 200);
                }
            });
        }
    });
    passed.into_inner().unwrap()
}

#[test]
fn checks_go_to_the_primary_of_their_slot() {
    let cluster = RedisCluster::start(0, 0);
    let node = node(&cluster, &[]);
    let before = cluster.script_calls();
    for turn in 0..4 {
        let body = batch((0..1_000).map(|key| json!({"policy": "few", "key": format!("k{key}")})));
        let answer = node.send("POST", "/check/batch", &[], &body).json();
        let results = answer["results"].as_array().unwrap();
        for (key, result) in results.iter().enumerate() {
            assert_eq!(result["allowed"], turn < 3, "{key}: {result}");
            assert_eq!(
                result["limits"][0]["remaining"],
                2_u64.saturating_sub(turn),
                "{key}: {result}"
            );
        }
    }
    let keys = cluster.keys();
    for key in (0..1_000).map(|key| key_of("few", &format!("k{key}"))) {
        assert_eq!(keys.get(&key), Some(&cluster.home(&key)), "{key}");
    }
    for (calls, before) in cluster.script_calls().iter().zip(before) {
        assert!(calls - before > 500, "{calls}");
    }
}

#[test]
fn two_nodes_under_load_admit_exactly_the_budgets_and_the_reference_agrees() {
    let cluster = RedisCluster::start(0, 0);
    let dir = tempfile::tempdir().unwrap();
    let record = |number: usize| dir.path().join(format!("{number}")).to_str().unwrap().to_owned();
    let nodes = [0, 1]
        .map(|number| node(&cluster, &["--record", &record(number), "--denial-memo", "false"]));
    let passed = check_all_keys(&nodes.each_ref(), 500, 10);
    assert_eq!(passed.len(), 500);
    assert!(passed.values().all(|times| *times == 3), "{passed:?}");
    // All limits of an API key have one subject: throttle and quota are judged together.
    let hot = |node: &Node| node.check(json!({"api_key": "hot-key"})).status;
    let statuses: Vec<u16> = (0..5).map(|number| hot(&nodes[number % 2])).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    for node in nodes {
        assert_eq!(node.stop(), Some(0));
    }
    let history: String = [0, 1].map(|number| fs::read_to_string(record(number)).unwrap()).concat();
    assert_eq!(tollgate::engine::replay(&history).unwrap(), 5_005);
}

#[test]
fn a_primary_that_has_lost_the_script_is_sent_it_again() {
    let cluster = RedisCluster::start(0, 0);
    let node = node(&cluster, &["--denial-memo", "false"]);
    for turn in 0..4 {
        cluster.servers[turn % 3].command(&["SCRIPT", "FLUSH"]);
        let body = batch((0..100).map(|key| json!({"policy": "few", "key": format!("k{key}")})));
        let answer = node.send("POST", "/check/batch", &[], &body).json();
        for result in answer["results"].as_array().unwrap() {
            assert_eq!(
                (&result["allowed"], &result["decided_by"]),
                (&json!(turn < 3), &json!("redis"))
            );
        }
    }
}

#[test]
fn all_nodes_know_the_other_nodes_and_the_resources_of_the_admin_api() {
    let cluster = RedisCluster::start(0, 0);
    let url = cluster.url();
    let flags = [
        "--store",
        &url,
        "--listen-admin",
        "127.0.0.1:0",
        "--drain-delay",
        "0s",
        "--check-deadline",
        DEADLINE,
    ];
    let token = [("TOLLGATE_ADMIN_TOKEN", "a-token-for-tests")];
    let [one, other] = [0, 1].map(|_| Node::launch(None, &flags, &token));
    crate::support::eventually("both nodes see two", || {
        [&one, &other].iter().all(|node| node.metric("tollgate_live_nodes", "") == 2.0)
    });
    let admin = |method: &str, path: &str, body: Value| {
        let headers =
            [("authorization", "Bearer a-token-for-tests"), ("content-type", "application/json")];
        let answer =
            crate::support::http::send(one.admin(), method, path, &headers, &body.to_string());
        assert!(answer.status < 300, "{answer:?}");
        answer.json()
    };
    let plan = admin(
        "POST",
        "/usageplans",
        json!({"name": "p", "throttle": {"rateLimit": 0.001, "burstLimit": 2}}),
    );
    let key = admin("POST", "/apikeys", json!({"name": "k", "enabled": true}));
    let path = format!("/usageplans/{}/keys", plan["id"].as_str().unwrap());
    admin("POST", &path, json!({"keyId": key["id"], "keyType": "API_KEY"}));
    let mut statuses = Vec::new();
    crate::support::eventually("the other node knows the key", || {
        statuses.push(other.check(json!({"api_key": key["value"]})).status);
        statuses.last() != Some(&403)
    });
    assert_eq!(one.check(json!({"api_key": key["value"]})).status, 200);
    assert_eq!(other.check(json!({"api_key": key["value"]})).status, 429);
    let log = one.log();
    assert_eq!(log.matches("its appendonly is no").count(), 3, "of each primary: {log}");
    one.signal(Signal::TERM);
    crate::support::eventually("the other node sees one", || {
        other.metric("tollgate_live_nodes", "") == 1.0
    });
}

#[test]
fn all_connections_to_a_cluster_use_tls() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert];
    let how = ["--tls-cluster", "yes", "--tls-auth-clients", "no"];
    let cluster = RedisCluster::start_with(0, 0, &[&how[..], &files].concat());
    let url = format!("rediss+cluster://127.0.0.1:{}", cluster.servers[0].tls_port());
    let body = batch((0..100).map(|key| json!({"policy": "few", "key": format!("k{key}")})));
    let decided_by_redis = |more: &[&str]| {
        let flags = [&["--store", &url, "--check-deadline", DEADLINE], more].concat();
        let node = Node::with_catalog(CATALOG, &flags);
        let answer = node.send("POST", "/check/batch", &[], &body).json();
        let results = answer["results"].as_array().unwrap().clone();
        results.iter().filter(|result| result["decided_by"] == "redis").count()
    };
    assert_eq!(decided_by_redis(&["--redis-ca", &cert]), 100);
    refuses_to_start(&url, "--redis-ca");
}

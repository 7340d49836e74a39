//! The policies of a key on a Cluster: they lie on other primaries than the key, so they are
//! charged ahead, and what a refused check has charged goes back.
//! Needs programs besides Rust, so `make fast` skips it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::support::eventually;

const CATALOG: &str = r#"
version: 1
plans:
  - { id: two, throttle: { rate: 1/h, burst: 2 }, quota: { limit: 100, period: day } }
  - { id: vast, throttle: { rate: 1/h, burst: 1000000 } }
  - { id: lent, throttle: { rate: 1/h, burst: 1000000 }, consistency: leased }
policies:
  - { name: team, throttle: { rate: 1/h, burst: 3 } }
  - { name: org, quota: { limit: 5, period: day } }
  - { name: wide, quota: { limit: 150, period: day } }
  - { name: few, throttle: { rate: 1/h, burst: 100 } }
  - { name: login, throttle: { rate: 1/h, burst: 9 } }
keys:
"#;

fn start(keys: &str, cluster: &RedisCluster, more: &[&str]) -> [Node; 2] {
    let catalog = format!("{CATALOG}{keys}");
    [0, 1].map(|_| node_with(&catalog, cluster, more))
}

/// A key of the plan with the policies `team` and `org`.
fn member(id: &str, plan: &str, team: &str, org: &str) -> String {
    format!(
        "  - {{ id: {id}, value: key-{id}, plans: [{plan}], policies: {{ team: {team}, org: {org} }} }}\n"
    )
}

/// The status, and by its name what is left of a limit.
fn outcome(answer: &Value) -> (bool, HashMap<String, u64>) {
    let limits = answer["limits"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    let rest = limits.map(|limit| {
        (limit["name"].as_str().unwrap().to_owned(), limit["remaining"].as_u64().unwrap())
    });
    (answer["allowed"].as_bool().unwrap(), rest.collect())
}

/// The units left of the key, its team and its organisation.
fn rest(answer: &Value) -> [u64; 3] {
    let (_, rest) = outcome(answer);
    ["two/throttle", "policy:team/throttle", "policy:org/quota"].map(|name| rest[name])
}

#[test]
fn a_refused_check_consumes_nothing_of_key_team_and_organisation_wherever_they_lie() {
    let cluster = RedisCluster::start(0, 0);
    let groups: Vec<String> = (0..8).map(|number| format!("g{number}")).collect();
    let keys: String = groups
        .iter()
        .flat_map(|group| {
            ["a", "b", "c"].map(|key| {
                let team = if key == "c" { format!("{group}-other") } else { group.clone() };
                member(&format!("{key}-{group}"), "two", &team, group)
            })
        })
        .collect();
    let nodes = start(&keys, &cluster, &["--denial-memo", "false"]);
    for group in &groups {
        let check = |turn: usize, key: &str, cost: u64| {
            nodes[turn % 2]
                .check(json!({"api_key": format!("key-{key}-{group}"), "cost": cost}))
                .json()
        };
        assert_eq!(rest(&check(0, "a", 1)), [1, 2, 4]);
        assert_eq!(rest(&check(1, "a", 1)), [0, 1, 3]);
        for turn in 0..3 {
            let answer = check(turn, "a", 1);
            assert_eq!(answer["violated"], "two/throttle", "{answer}");
            assert_eq!(rest(&answer)[0], 0, "the key refuses, its groups keep: {answer}");
            let answer = check(turn, "b", 2);
            assert_eq!(answer["violated"], "policy:team/throttle", "{answer}");
        }
        assert_eq!(rest(&check(0, "b", 0)), [2, 1, 3], "nothing was consumed");
        assert_eq!(rest(&check(0, "b", 1)), [1, 0, 2]);
        assert_eq!(rest(&check(1, "c", 2)), [0, 1, 0]);
        let answer = check(1, "b", 1);
        assert_eq!(answer["allowed"], false, "{answer}");
        let alone = nodes[0].check(json!({"policy": "org", "key": group, "cost": 0})).json();
        assert_eq!(outcome(&alone).1["policy:org/quota"], 0, "{alone}");
        let alone = nodes[0].check(json!({"policy": "team", "key": format!("{group}-other")}));
        assert_eq!(alone.status, 200, "it kept the one that was left: {alone:?}");
    }
    let homes = cluster.keys();
    let homes = |server| homes.values().filter(|home| **home == server).count();
    assert!((0..3).all(|server| homes(server) > 5), "they lie on all primaries");
}

#[test]
fn a_batch_and_a_report_are_charged_to_them_too() {
    let cluster = RedisCluster::start(0, 0);
    let nodes = start(&member("a", "two", "red", "acme"), &cluster, &["--denial-memo", "false"]);
    let checks = [1, 1, 1].map(|cost| json!({"api_key": "key-a", "cost": cost}));
    let answer = nodes[0].send("POST", "/check/batch", &[], &batch(checks.into_iter())).json();
    let allowed = answer["results"].as_array().unwrap().iter();
    let allowed = allowed.filter(|result| result["allowed"] == true).count();
    assert!((1..=2).contains(&allowed), "of the burst of two: {answer}");
    let report = json!({"api_key": "key-a", "cost": 9, "after_the_fact": true});
    assert_eq!(nodes[1].check(report).status, 200);
    let answer = nodes[0].check(json!({"api_key": "key-a", "cost": 0})).json();
    let debts = answer["limits"].as_array().unwrap().iter().filter(|limit| limit["debt"].is_u64());
    assert_eq!(debts.count(), 3, "key, team and organisation are in debt: {answer}");
}

#[test]
fn concurrent_checks_of_many_keys_never_exceed_them_and_lose_nothing() {
    let cluster = RedisCluster::start(0, 0);
    let key = |n: usize| {
        let plan = if n.is_multiple_of(2) { "vast" } else { "lent" };
        let policies = format!("{{ wide: all, few: half-{} }}", n / 3);
        format!("  - {{ id: k{n}, value: key-{n}, plans: [{plan}], policies: {policies} }}")
    };
    let keys = (0..6).map(key).collect::<Vec<_>>().join("\n");
    let nodes = start(&keys, &cluster, &[]);
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for n in 0..6 {
            let (node, admitted) = (&nodes[n % 2], &admitted);
            scope.spawn(move || {
                let mut connection = KeepAlive::open(node.address()).unwrap();
                let body = json!({"api_key": format!("key-{n}")}).to_string();
                for _ in 0..200 {
                    let answer = connection.post("/check", &body).unwrap();
                    assert!(answer.status == 200 || answer.status == 429, "{answer:?}");
                    admitted.fetch_add(u64::from(answer.status == 200), Ordering::SeqCst);
                }
            });
        }
    });
    let before = admitted.load(Ordering::SeqCst);
    assert!((100..=150).contains(&before), "{before}");
    // Units that concurrent checks have charged ahead for each other's refusals are back.
    let answer = nodes[0].check(json!({"policy": "wide", "key": "all", "cost": 0})).json();
    assert_eq!(outcome(&answer).1["policy:wide/quota"], 150 - before, "{answer}");
    eventually("the rest is admitted", || {
        let more =
            (0..6).map(|n| nodes[n % 2].check(json!({"api_key": format!("key-{n}")})).status);
        let more = more.filter(|status| *status == 200).count() as u64;
        admitted.fetch_add(more, Ordering::SeqCst) + more == 150
    });
}

#[test]
fn a_policy_that_the_caller_names_is_still_exact_unless_it_is_the_keys_own() {
    let cluster = RedisCluster::start(0, 0);
    let nodes = start(&member("a", "two", "red", "acme"), &cluster, &["--denial-memo", "false"]);
    let check = |policy: &str, key: &str| {
        let policies = json!([{"policy": policy, "key": key}]);
        nodes[0].check(json!({"api_key": "key-a", "policies": policies}))
    };
    let answer = check("login", "ip");
    assert!(answer.status == 400 && answer.body.contains("policy:login/throttle"), "{answer:?}");
    let answer = check("team", "blue");
    assert_eq!(answer.status, 400, "{answer:?}");
    let answer = check("team", "red");
    assert_eq!((answer.status, rest(&answer.json())), (200, [1, 2, 4]), "once: {answer:?}");
}

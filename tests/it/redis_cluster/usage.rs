//! Daily usage on a Cluster: a key's past days lie in its slot, and are stored there before the
//! counter starts a new day.
//! Needs programs besides Rust, so `make fast` skips it.

use redis::Commands as _;
use tollgate::algorithm::RowKind;
use tollgate::limit::RowId;

use super::*;
use crate::control::usage::{DAY, days, today};
use crate::control::{call, node as node_with_admin};

const KEYS: usize = 40;
const PLANS: &str = r#"
version: 1
apis: [ { id: a, stages: [ { name: s, throttle: { rate: 1/h, burst: 1000 }, consistency: leased } ] } ]
plans:
  - id: daily
    quota: { limit: 400, period: day }
    limits: [ { name: tpm, unit: total_tokens, throttle: { rate: 1000000/s, burst: 1000000 } } ]
    on_store_failure: closed
  - { id: open, on_store_failure: closed }
policies: [ { name: few, throttle: { rate: 1/h, burst: 3 }, on_store_failure: closed } ]
keys:
  - { id: o, value: key-o, plans: [open] }
"#;

fn serve(cluster: &RedisCluster) -> Node {
    let keys = |number| format!("  - {{ id: k{number}, value: key-{number}, plans: [daily] }}\n");
    let catalog = format!("{PLANS}{}", (0..KEYS).map(keys).collect::<String>());
    let flags = ["--store", &cluster.url(), "--check-deadline", "10s", "--denial-memo", "false"];
    node_with_admin(Some(&catalog), &flags)
}

/// Moves the usage that an API key's quota has counted today to yesterday. `lua/subject.lua` and
/// `lua/calendar_quota.lua` describe the packed rows.
fn age(cluster: &RedisCluster, id: &str) {
    let key = Subject::api_key(id).redis_key();
    let mut connection = cluster.servers[cluster.keys()[&key]].connection();
    let mut rows: Vec<u8> = connection.get(&key).unwrap();
    let mut rest = &mut rows[5..];
    while let Some((head, behind)) = rest.split_first_chunk_mut::<{ RowId::LEN }>() {
        let (id, length) = RowId::from_head(*head);
        let (body, behind) = behind.split_at_mut(length);
        if id.kind() == RowKind::CALENDAR_QUOTA {
            let window = &mut body[7..];
            let begins = window.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
            window.copy_from_slice(&(begins - 86_400).to_le_bytes()[..5]);
        }
        rest = behind;
    }
    redis::cmd("SET").arg(&key).arg(rows).arg("KEEPTTL").exec(&mut connection).unwrap();
}

fn charge(number: usize, requests: u64) -> Value {
    let cost = json!({"requests": requests, "total_tokens": 3 * requests});
    json!({"api_key": format!("key-{number}"), "cost": cost})
}

#[test]
fn usage_over_a_change_of_day_is_what_was_admitted_in_every_slot() {
    let cluster = RedisCluster::start(0, 0);
    let nodes = [0, 1].map(|_| serve(&cluster));
    let check_all = |node: &Node, requests| {
        let body = batch((0..KEYS).map(|number| charge(number, requests)));
        let answer = node.send("POST", "/check/batch", &[], &body).json();
        for result in answer["results"].as_array().unwrap() {
            let decision = (&result["allowed"], &result["decided_by"]);
            assert_eq!(decision, (&json!(true), &json!("redis")), "{result}");
        }
    };
    check_all(&nodes[0], 5);
    (0..KEYS).for_each(|number| age(&cluster, &format!("k{number}")));
    std::thread::scope(|scope| {
        for node in nodes.iter().cycle().take(6) {
            scope.spawn(|| check_all(node, 2));
        }
    });
    let yesterday = today(-DAY);
    for node in &nodes {
        let range = format!("startDate={yesterday}&endDate={}&limit=500", today(0));
        let path = format!("/usageplans/daily/usage?{range}");
        let usage = call(node, "GET", &path, Value::Null);
        let usage = usage["values"].as_object().unwrap().clone();
        assert_eq!(usage.len(), KEYS);
        for (key, requests) in &usage {
            assert_eq!(*requests, json!([[5, 395], [12, 388]]), "{key}");
            let tokens = days(node, "daily", key, "total_tokens", yesterday);
            assert_eq!((tokens[0][0], tokens[1][0]), (15, 36), "{key}");
        }
    }
    for (key, home) in cluster.keys() {
        assert!(!key.ends_with(":usage") || home == cluster.home(&key), "{key}");
    }
    let patch = json!({"patchOperations": [{"op": "replace", "path": "/remaining", "value": "1"}]});
    call(&nodes[0], "PATCH", "/usageplans/daily/keys/k7/usage", patch);
    let passes = |requests| nodes[1].check(charge(7, requests)).status == 200;
    assert_eq!([2, 1, 1].map(passes), [false, true, false]);
    assert_eq!(days(&nodes[1], "daily", "k7", "requests", yesterday), [[5, 395], [13, 0]]);
}

#[test]
fn a_day_is_stored_where_its_slot_is_being_moved_to() {
    let cluster = RedisCluster::start(0, 0);
    let node = serve(&cluster);
    let passes = |requests| node.check(charge(1, requests)).status == 200;
    for requests in [1, 2] {
        assert!(passes(requests));
        age(&cluster, "k1");
    }
    let key = Subject::api_key("k1").redis_key();
    let (slot, home) = (cluster.slot(&key), cluster.home(&key));
    let away = (home + 1) % 3;
    cluster.begin_moving(slot, home, away);
    while cluster.move_keys(slot, home, away, 10) {}
    cluster.servers[away].command(&["SCRIPT", "FLUSH"]);
    assert!(passes(4), "{}", node.log());
    cluster.end_moving(slot, away);
    assert!(passes(8));
    assert_eq!(days(&node, "daily", "k1", "requests", today(-DAY)), [[3, 398], [12, 388]]);
    assert_eq!(cluster.keys()[&format!("{key}:usage")], away);
}

#[test]
fn a_meter_in_another_slot_than_the_limits_counts_only_admitted_requests() {
    let cluster = RedisCluster::start(0, 0);
    let node = serve(&cluster);
    let used = || days(&node, "open", "o", "requests", today(0))[0][0];
    let policies = json!([{"policy": "few", "key": "u"}]);
    for (sent, status) in (1..).zip([200, 200, 200, 429, 429]) {
        let answer = node.check(json!({"api_key": "key-o", "policies": policies}));
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(used(), i64::min(sent, 3));
    }
    let check = json!({"api_key": "key-o", "api": "a", "stage": "s"});
    let passed: i64 = (0..50).map(|_| i64::from(node.check(check.clone()).status == 200)).sum();
    assert!(passed > 0);
    crate::support::eventually("all admitted requests are counted", || used() == 3 + passed);
}

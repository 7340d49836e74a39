//! The Redis module beside nodes, scripts and replicas that have none.
//!
//! `twins` compares what it decides and stores. Needs libclang to build.
//! Needs programs besides Rust, so `make fast` skips it.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use redis::Value;
use serde_json::json;
use tollgate::limit::Subject;

use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::RedisServer;
use crate::support::redis_cluster::RedisCluster;

const CATALOG: &str = r#"
version: 1
plans:
  - id: pro
    throttle: { rate: 1/h, burst: 100 }
    quota: { limit: 80, period: day }
keys: [ { id: alice, value: alice-key, plans: [pro] } ]
policies:
  - { name: few, throttle: { rate: 1/h, burst: 3 }, on_store_failure: closed }
  - { name: counted, quota: { limit: 100, period: month }, on_store_failure: closed }
"#;

fn node(url: &str) -> Node {
    Node::with_catalog(CATALOG, &["--store", url, "--check-deadline", "5s", "--drain-delay", "0s"])
}

fn start(more: &[&str]) -> RedisServer {
    RedisServer::start_with(&[&RedisServer::module_arguments()[..], more].concat())
}

fn calls(node: &Node, by: &str) -> f64 {
    node.metric("tollgate_store_calls_total", by)
}

fn is_error(reply: redis::RedisResult<Value>, code: &str) {
    let error = reply.unwrap_err();
    let is_it = error.code() == Some(code) || error.to_string().contains(code);
    assert!(is_it, "{error} is no {code}");
}

#[test]
fn a_node_finds_the_module_and_judges_by_the_script_without_it() {
    let (with, without) = (start(&[]), RedisServer::start());
    let (with, without) = (node(&with.url()), node(&without.url()));
    for node in [&with, &without] {
        assert!((0..3).all(|_| node.passes("few", "k", 1)) && !node.passes("few", "k", 1));
        let check = json!({"api_key": "alice-key", "cost": 1});
        let allowed = (0..90).filter(|_| node.check(check.clone()).status == 200).count();
        assert_eq!(allowed, 80);
    }
    assert!(calls(&with, "module") >= 80.0 && calls(&with, "script") == 0.0);
    assert!(calls(&without, "script") >= 80.0 && calls(&without, "module") == 0.0);
    assert!(with.log().contains("the module of Redis judges the checks"), "{}", with.log());
}

/// The bodies that open and settle a reservation of ten units.
fn reserve(node: &Node, id: &str) -> Option<String> {
    let reservation = json!({"id": id, "ttl_ms": 60_000});
    let reserved =
        node.check(json!({"api_key": "alice-key", "cost": 10, "reservation": reservation}));
    Some(reserved.json()["reservation"]["handle"].as_str()?.to_owned())
}

fn adjust(node: &Node, what: &str, body: &serde_json::Value) -> u16 {
    node.send("POST", &format!("/reservations/{what}"), &[], &body.to_string()).status
}

#[test]
fn the_module_opens_and_settles_reservations_and_a_node_without_it_does_so_in_turn() {
    let redis = start(&[]);
    let (module, script) = (node(&redis.url()), node(&redis.url_without_module()));
    for (one, other) in [(&module, &script), (&script, &module)] {
        let [settled, cancelled] = ["settled", "cancelled"].map(|id| reserve(one, id).unwrap());
        assert_eq!(reserve(other, "settled").as_ref(), Some(&settled), "the same check again");
        let extend = json!({"handle": settled, "ttl_ms": 60_000});
        assert_eq!(adjust(other, "extend", &extend), 200);
        let settle = json!({"handle": settled, "actual": {"requests": 4}});
        let statuses = [one, other].map(|node| adjust(node, "settle", &settle));
        assert_eq!(statuses, [200, 404]);
        assert_eq!(adjust(other, "cancel", &json!({"handle": cancelled})), 200);
    }
    let check = || module.check(json!({"api_key": "alice-key", "cost": 1}));
    let statuses: Vec<u16> = (0..90).map(|_| check().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 72, "{}", check().body);
    assert!(calls(&module, "module") >= 72.0 && calls(&module, "script") == 0.0);
    assert!(calls(&script, "script") >= 6.0 && calls(&script, "module") == 0.0);
}

#[test]
fn a_full_redis_settles_reservations_and_opens_none() {
    let redis = start(&[]);
    let node = node(&redis.url());
    let handle = reserve(&node, "before").unwrap();
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let settle = json!({"handle": handle, "actual": {"requests": 4}});
    assert_eq!(adjust(&node, "settle", &settle), 200);
    assert_eq!(reserve(&node, "after"), None);
    assert_eq!(calls(&node, "script"), 0.0);
}

#[test]
fn nodes_that_use_the_module_and_nodes_that_do_not_share_one_exact_bound() {
    let redis = start(&[]);
    let nodes = [node(&redis.url()), node(&redis.url_without_module())];
    let allowed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for node in nodes.iter().chain(&nodes) {
            scope.spawn(|| {
                for _ in 0..60 {
                    allowed.fetch_add(node.passes("counted", "shared", 1).into(), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(allowed.load(Ordering::SeqCst), 100);
    assert!(calls(&nodes[0], "module") > 0.0 && calls(&nodes[1], "module") == 0.0);
    assert!(calls(&nodes[1], "script") > 0.0);
}

#[test]
fn a_module_that_is_unloaded_or_of_another_version_leaves_the_checks_to_the_script() {
    let redis = start(&[]);
    let node = node(&redis.url());
    assert!(node.passes("few", "k", 2));
    redis.command(&["MODULE", "UNLOAD", "tollgate"]);
    assert!(node.passes("few", "k", 1) && !node.passes("few", "k", 1));
    assert!(calls(&node, "script") > 0.0);
    is_error(start(&[]).try_command(&["TG.JUDGE", "0", "0", "", ""]), "TGREFUSED");
}

#[test]
fn a_replica_without_the_module_follows_and_a_restart_without_it_keeps_the_counters() {
    let mut primary = RedisServer::start_with(
        &[
            &RedisServer::module_arguments()[..],
            &["--appendonly", "yes", "--appendfsync", "always"],
        ]
        .concat(),
    );
    let replica = RedisServer::start();
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    eventually("the replica follows", || {
        replica.command_text(&["INFO", "replication"]).contains("master_link_status:up")
    });
    let node = node(&primary.url());
    assert!((0..3).all(|_| node.passes("few", "k", 1)) && node.passes("counted", "k", 40));
    let [settled, _open] = ["settled", "open"].map(|id| reserve(&node, id).unwrap());
    let settle = json!({"handle": settled, "actual": {"requests": 4}});
    assert_eq!(adjust(&node, "settle", &settle), 200);
    // Of subjects and reservations, not of nodes.
    let pattern = format!("tg:{{{}}}*", "?".repeat(22));
    let stored = |redis: &RedisServer| {
        let keys = redis.command(&["KEYS", &pattern]);
        let mut keys: Vec<String> = redis::from_redis_value(keys).unwrap();
        keys.sort();
        let read = |key: &String| {
            [&["DUMP", key][..], &["PEXPIRETIME", key]].map(|words| redis.command(words))
        };
        keys.into_iter().map(|key| (read(&key), key)).collect::<Vec<_>>()
    };
    let before = stored(&primary);
    let reservations = before.iter().filter(|(_, key)| key.contains(":r:")).count();
    assert_eq!(reservations, 1, "the other one is settled");
    eventually("the replica has the counters", || stored(&replica) == before);
    is_error(replica.try_command(&["TG.JUDGE", "1", "0", "", ""]), "unknown command");
    // It probes a Redis that is back, and the probe is a charge.
    drop(node);
    primary.restart_without_module();
    eventually("the data is loaded", || primary.try_command(&["DUMP", "x"]).is_ok());
    assert_eq!(stored(&primary), before);
    assert_eq!(primary.module_calls(), 0);
}

#[test]
fn a_full_redis_makes_no_charge_and_still_answers_refusals() {
    let redis = start(&[]);
    let node = node(&redis.url());
    assert!((0..3).all(|_| node.passes("few", "k", 1)));
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(!node.passes("few", "k", 1), "a refusal writes nothing");
    assert_eq!(node.check(json!({"policy": "few", "key": "new"})).status, 503);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    eventually("the node is back", || {
        node.check(json!({"policy": "few", "key": "new", "cost": 0})).status == 200
    });
    assert!(calls(&node, "module") > 0.0);
}

#[test]
fn a_replica_with_the_module_refuses_to_write() {
    let (primary, replica) = (start(&[]), start(&[]));
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    is_error(replica.try_command(&["TG.JUDGE", "1", "0", "", ""]), "READONLY");
}

#[test]
fn a_cluster_routes_calls_of_the_module_by_their_keys() {
    let cluster = RedisCluster::start_with(0, 0, &RedisServer::module_arguments());
    let url = cluster.url();
    let node = node(&url);
    for key in 0..20 {
        let key = key.to_string();
        assert!(node.passes("few", &key, 3) && !node.passes("few", &key, 1));
    }
    assert!(calls(&node, "module") >= 20.0 && calls(&node, "script") == 0.0);
    let key = Subject::policy("few", "1").redis_key();
    let away = (cluster.home(&key) + 1) % 3;
    let words = ["TG.JUDGE", "1", "1", &key, "", ""];
    is_error(cluster.servers[away].try_command(&words), "MOVED");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_call_contains_the_module_answers_and_a_malformed_one_charges_nothing(
        calls in prop::collection::vec(garbage(), 1..20),
    ) {
        thread_local! { static REDIS: RedisServer = start(&[]); }
        REDIS.with(|redis| {
            let mut connection = redis.connection();
            let _: () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
            for words in &calls {
                let mut command = redis::cmd("TG.JUDGE");
                command.arg(words);
                let before: u64 = redis::cmd("DBSIZE").query(&mut connection).unwrap();
                let reply: redis::RedisResult<Value> = command.query(&mut connection);
                let after: u64 = redis::cmd("DBSIZE").query(&mut connection).unwrap();
                prop_assert!(reply.is_ok() || before == after, "{:?} {:?}", words, reply);
                let text = reply.err().map(|error| error.to_string()).unwrap_or_default();
                prop_assert!(!text.contains("failed while it judged"), "{:?} panics", words);
            }
            Ok(())
        })?;
    }
}

/// The words of a call: near to one that a node sends, or anything at all.
fn garbage() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    let key = prop_oneof![Just(b"a".to_vec()), Just(b"b".to_vec()), bytes()];
    let count = prop_oneof![8 => Just(b"1".to_vec()), 1 => Just(b"2".to_vec()), 1 => bytes()];
    let double = || {
        prop_oneof![
            Just(1.0),
            Just(-1.0),
            Just(0.0),
            Just(1e6),
            Just(9_007_199_254_740_991.0),
            Just(f64::NAN),
            any::<f64>()
        ]
    };
    let limit = (
        0_u8..16,
        prop_oneof![Just(1_u8), Just(2), Just(8), any::<u8>()],
        prop::collection::vec(double(), 0..8),
        bytes(),
    );
    let limit = limit.prop_map(|(flags, kind, numbers, more)| {
        let mut limit = vec![flags | kind << 4, 0, kind, 7, 7, 7, 7, 7];
        limit.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        // A quota ends with the names of its windows.
        limit.extend(more.iter().take(if kind == 2 { 15 } else { 0 }));
        limit
    });
    let charge = (0_u16..3, 0_u16..3, double());
    let check = prop::collection::vec(charge, 0..3).prop_map(|charges| {
        let mut check = vec![charges.len() as u8];
        for (key, limit, amount) in charges {
            check.extend([key.to_le_bytes(), limit.to_le_bytes()].concat());
            check.extend(amount.to_le_bytes());
        }
        check
    });
    let operation = (251_u8..=253, 0_u16..2, double(), 0_u16..20, bytes()).prop_map(
        |(code, reservation, ttl, terms, rest)| {
            let reservation = reservation.to_le_bytes();
            let head = [&reservation[..], &ttl.to_le_bytes(), &terms.to_le_bytes()].concat();
            let len = u32::try_from(head.len() + rest.len()).unwrap().to_le_bytes();
            [&[code][..], &len, &head, &rest].concat()
        },
    );
    let checks = prop_oneof![4 => check, 2 => operation, 1 => bytes()];
    let limits = prop_oneof![4 => limit, 1 => bytes()];
    let subjects = prop::option::of(prop_oneof![Just(b"0".to_vec()), bytes()]);
    let near = (count, key, limits, checks, prop::option::of(bytes()), subjects).prop_map(
        |(count, key, limits, checks, refunds, subjects)| {
            let mut words = vec![b"1".to_vec(), count, key, limits, checks];
            words.extend(refunds);
            words.extend(subjects);
            words
        },
    );
    prop_oneof![8 => near, 1 => prop::collection::vec(bytes(), 0..6)]
}

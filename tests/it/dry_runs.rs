//! Dry runs over HTTP: the status and body of the check itself, and nothing stays of them.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::{KeepAlive, Response};
use crate::support::node::Node;
use crate::support::redis::RedisServer;

/// Next to nothing drains while a test runs.
const CATALOG: &str = r#"
version: 1
plans:
  - id: pro
    throttle: { rate: 1/h, burst: 100 }
    limits:
      - { name: tpm, unit: total_tokens, throttle: { rate: 24/d, burst: 1000 } }
      - { name: tpd, unit: total_tokens, quota: { limit: 1500, period: month } }
      - { name: streams, concurrency: { limit: 1 } }
keys: [ { id: alice, value: alice-key, plans: [pro] } ]
policies:
  - { name: few, throttle: { rate: 1/h, burst: 3 } }
  - { name: counted, quota: { limit: 3, period: month } }
  - { name: tried, throttle: { rate: 1/h, burst: 1 }, mode: shadow }
  - { name: closed, throttle: { rate: 1/h, burst: 8 }, on_store_failure: closed }
  - { name: local, throttle: { rate: 1/h, burst: 4 }, on_store_failure: local }
  - { name: new, throttle: { rate: 1/h, burst: 3 }, new_keys: 2/d }
  - { name: hot, throttle: { rate: 100000/s, burst: 100000 }, consistency: leased }
"#;

/// Runs a test on a node with the memory store and on one with Redis.
fn on_both(test: impl Fn(&Node)) {
    test(&Node::with_catalog(CATALOG, &[]));
    let redis = RedisServer::start();
    test(&Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]));
}

fn dry(node: &Node, check: &Value) -> Response {
    let mut check = check.clone();
    check["dry_run"] = true.into();
    node.check(check)
}

/// The status and the body without the times that pass, and without the handle.
fn timeless(answer: &Response) -> (u16, Value) {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for time in ["reset_ms", "retry_after_ms", "handle"] {
                    members.remove(time);
                }
                members.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut body = answer.json();
    strip(&mut body);
    (answer.status, body)
}

/// Runs a check dry twice, then makes it, and expects the same response.
#[track_caller]
fn same_as_the_check(node: &Node, check: &Value) -> Response {
    let first = dry(node, check);
    let second = dry(node, check);
    let made = node.check(check.clone());
    for dry in [&first, &second] {
        assert_eq!(timeless(dry), timeless(&made), "{check}");
        let header = |answer: &Response| answer.header("x-ratelimit-remaining").map(str::to_owned);
        assert_eq!(header(dry), header(&made), "{check}");
    }
    made
}

#[test]
fn a_dry_run_answers_as_the_check_and_charges_nothing() {
    on_both(|node| {
        for policy in ["few", "counted", "tried"] {
            for cost in [0, 2, 2, 1, 1, 0, 9] {
                same_as_the_check(node, &json!({"policy": policy, "key": "a", "cost": cost}));
            }
        }
        let spent = node.check(json!({"policy": "counted", "key": "a", "cost": 0}));
        assert_eq!(spent.status, 200, "a look at an exhausted quota is allowed, as before");
        let check = json!({"policy": "counted", "key": "a", "cost": 1});
        assert_eq!(dry(node, &check).status, 429, "and a dry run of a cost is not");
        same_as_the_check(node, &json!({"policy": "no", "key": "a"}));
        same_as_the_check(node, &json!({"api_key": "nobody"}));
    });
}

#[test]
fn a_report_and_a_reservation_are_run_dry_too() {
    on_both(|node| {
        let report = |tokens: u64| {
            let cost = json!({"requests": 0, "total_tokens": tokens});
            json!({"api_key": "alice-key", "cost": cost, "after_the_fact": true})
        };
        let reserve = |id: &str, tokens: u64| {
            let cost = json!({"total_tokens": tokens});
            json!({"api_key": "alice-key", "cost": cost, "reservation": {"id": id}})
        };
        let answer = dry(node, &reserve("one", 400)).json();
        let expected = json!({"ttl_ms": 60_000, "replayed": false, "reserved": {"requests": 1, "total_tokens": 400}});
        assert_eq!(answer["reservation"], expected, "an object without a handle");
        same_as_the_check(node, &reserve("one", 400));
        let replayed = same_as_the_check(node, &reserve("one", 400)).json();
        assert_eq!(replayed["reservation"]["replayed"], true, "{replayed}");
        let conflict = same_as_the_check(node, &reserve("one", 500));
        assert_eq!(conflict.status, 409, "{conflict:?}");
        let taken = same_as_the_check(node, &reserve("two", 1));
        assert_eq!(taken.json()["violated"], "pro/streams", "{taken:?}");
        same_as_the_check(node, &reserve("two", 5_000));
        same_as_the_check(node, &report(700));
        let debt = same_as_the_check(node, &report(700)).json();
        assert_eq!((&debt["allowed"], &debt["limits"][1]["debt"]), (&json!(false), &json!(800)));
        let both = json!({"api_key": "alice-key", "after_the_fact": true, "reservation": {}});
        assert_eq!(same_as_the_check(node, &both).status, 400);
    });
}

#[test]
fn a_dry_run_in_a_batch_sees_what_the_checks_before_it_charge() {
    on_both(|node| {
        let check = |cost: u64, dry_run: bool| json!({"policy": "few", "key": "b", "cost": cost, "dry_run": dry_run});
        let checks = json!({"checks": [
            check(3, true), check(2, false), check(2, true), check(1, true), check(1, false), check(1, true),
        ]});
        let answer = node.send("POST", "/check/batch", &[], &checks.to_string()).json();
        let results = answer["results"].as_array().unwrap().iter();
        let statuses: Vec<_> = results.map(|result| result["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [200, 200, 429, 200, 200, 429], "{answer}");
    });
}

#[test]
fn nothing_stays_of_a_dry_run_in_redis_metrics_record_and_memo() {
    let (redis, dir) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let record = dir.path().join("record");
    let record_flags = ["--record", record.to_str().unwrap()];
    let flags = ["--store", &redis.url(), "--check-deadline", "5s"];
    let node = Node::with_catalog(CATALOG, &[&flags[..], &record_flags[..]].concat());
    let keys = || {
        let mut keys: Vec<String> =
            ::redis::cmd("KEYS").arg("tg:*").query(&mut redis.connection()).unwrap();
        keys.sort();
        keys
    };
    let reserve =
        json!({"api_key": "alice-key", "cost": {"total_tokens": 9}, "reservation": {"id": "r"}});
    assert_eq!(dry(&node, &json!({"policy": "few", "key": "a"})).status, 200);
    assert_eq!(dry(&node, &reserve).status, 200);
    let before = keys();
    assert!(node.passes("few", "a", 3));
    assert_ne!(before, keys(), "a check writes");
    let before = keys();
    let decisions = node.metric("tollgate_decisions_total", "");
    let refused = json!({"policy": "few", "key": "a", "cost": 1});
    assert_eq!(dry(&node, &refused).json()["decided_by"], "redis");
    assert_eq!(dry(&node, &refused).json()["decided_by"], "redis", "it is not in the memo");
    assert_eq!(before, keys());
    assert_eq!(node.metric("tollgate_decisions_total", ""), decisions, "nor in the metrics");
    eventually("the check is recorded", || {
        std::fs::read_to_string(&record).unwrap_or_default().lines().count() == 1
    });
    drop(node);
    let node = Node::with_catalog(CATALOG, &flags[..]);
    let by = |answer: &Response| answer.json()["decided_by"].as_str().unwrap().to_owned();
    eventually("both workers remember the refusal", || by(&node.check(refused.clone())) == "memo");
    eventually("a dry run meets the memo", || by(&dry(&node, &refused)) == "memo");
}

#[test]
fn a_dry_run_begins_no_new_key() {
    on_both(|node| {
        let check = |key: &str| json!({"policy": "new", "key": key});
        for key in ["a", "b", "c", "d"] {
            assert_eq!(dry(node, &check(key)).status, 200);
        }
        assert!(node.passes("new", "a", 1));
        let refused = same_as_the_check(node, &check("b"));
        assert_eq!(refused.json()["decided_by"], "new_keys", "{refused:?}");
        same_as_the_check(node, &check("a"));
    });
}

#[test]
fn a_dry_run_without_redis_follows_the_failure_policy_and_spends_no_share() {
    let mut redis = RedisServer::start();
    let flags = ["--store", &redis.url(), "--check-deadline", "100ms"];
    let node = Node::with_catalog(CATALOG, &flags);
    redis.kill();
    eventually("the circuit breaker opens", || {
        node.check(json!({"policy": "few", "key": "a"})).json()["decided_by"] == "fallback"
    });
    for _ in 0..10 {
        let check = json!({"policy": "local", "key": "a", "cost": 4});
        assert_eq!(dry(&node, &check).status, 200, "the share is four");
    }
    for cost in [3, 2, 1, 1, 9] {
        same_as_the_check(&node, &json!({"policy": "local", "key": "a", "cost": cost}));
    }
    same_as_the_check(&node, &json!({"policy": "closed", "key": "a"}));
    same_as_the_check(&node, &json!({"policy": "few", "key": "a"}));
    let reserve = json!({"policy": "local", "key": "r", "cost": 3, "reservation": {"id": "r"}});
    for _ in 0..2 {
        same_as_the_check(&node, &reserve);
    }
    let unavailable = json!({"policy": "few", "key": "a", "reservation": {}});
    let answer = same_as_the_check(&node, &unavailable);
    assert!(answer.json()["reservation"].is_null(), "{answer:?}");
}

#[test]
fn a_dry_run_of_a_leased_limit_is_answered_by_the_lease_and_takes_nothing() {
    let redis = RedisServer::start();
    let flags = ["--store", &redis.url(), "--check-deadline", "5s"];
    let node = Node::with_catalog(CATALOG, &flags);
    let mut connection = KeepAlive::open(node.address()).unwrap();
    let (check, dry) =
        (r#"{"policy":"hot","key":"a"}"#, r#"{"policy":"hot","key":"a","dry_run":true,"cost":1}"#);
    eventually("a dry run is answered by a lease", || {
        for _ in 0..300 {
            assert_eq!(connection.post("/check", check).unwrap().status, 200);
        }
        let answer = connection.post("/check", dry).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["decided_by"] == "lease"
    });
    let idle = dry.replace("\"a\"", "\"b\"");
    for _ in 0..300 {
        let answer = connection.post("/check", &idle).unwrap();
        assert_eq!(answer.json()["decided_by"], "redis", "dry runs are no demand: {answer:?}");
    }
}

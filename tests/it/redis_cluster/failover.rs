//! Lost primaries: the plan's failure policy decides for their slots until a replica is promoted,
//! and other slots are not affected.
//! Needs programs besides Rust, so `make fast` skips it.

use std::time::{Duration, Instant};

use super::*;
use crate::support::eventually;

/// A key of the policy `many` whose slot this server holds at first.
fn key_at(cluster: &RedisCluster, server: usize) -> String {
    let key = (0..).map(|number| format!("k{number}"));
    key.into_iter().find(|key| cluster.home(&key_of("many", key)) == server).unwrap()
}

fn check(node: &Node, key: &str) -> (u16, String) {
    let answer = node.check(json!({"policy": "many", "key": key}));
    (answer.status, answer.json()["decided_by"].as_str().unwrap_or_default().to_owned())
}

fn by_redis(status: u16) -> (u16, String) {
    (status, "redis".into())
}

#[test]
fn a_lost_primary_is_replaced_by_its_replica_and_other_slots_are_not_affected() {
    let mut cluster = RedisCluster::start(3, 0);
    let node = node(&cluster, &["--check-deadline", "200ms"]);
    let keys = [0, 1, 2].map(|server| key_at(&cluster, server));
    for key in &keys {
        assert_eq!(check(&node, key), by_redis(200));
    }
    cluster.servers[0].kill();
    let lost = Instant::now();
    let mut visible = None;
    let mut refused = 0;
    let others = |node: &Node| {
        for key in &keys[1..] {
            assert_eq!(check(node, key), by_redis(200), "another slot");
        }
    };
    while check(&node, &keys[0]) != by_redis(200) {
        refused += 1;
        others(&node);
        if visible.is_none()
            && cluster.servers[3].command_text(&["INFO", "replication"]).contains("role:master")
        {
            visible = Some(Instant::now());
        }
        assert!(lost.elapsed() < crate::support::TEST_TIMEOUT, "no recovery: {}", node.log());
    }
    assert!(refused > 0);
    // The design says one second; three allow for a slow machine.
    let took = visible.map_or(Duration::ZERO, |visible| visible.elapsed());
    assert!(took < Duration::from_secs(3), "it took {took:?}");
    eventually("every circuit breaker is closed", || node.get("/readyz").body.contains("ok"));
    others(&node);
}

#[test]
fn a_lost_primary_without_a_replica_affects_only_its_own_slots() {
    let mut cluster = RedisCluster::start(0, 0);
    let node = node(&cluster, &["--check-deadline", "200ms"]);
    let keys = [0, 1, 2].map(|server| key_at(&cluster, server));
    cluster.servers[2].kill();
    eventually("the circuit breaker opens", || {
        check(&node, &keys[2]) == (503, "fallback".into())
            && node.get("/readyz").body.contains("degraded")
    });
    let slots = || {
        let stats = cluster.servers[0].command_text(&["INFO", "commandstats"]);
        let calls = stats.split("cmdstat_cluster|slots:calls=").nth(1).unwrap();
        calls.split(',').next().unwrap().parse::<u32>().unwrap()
    };
    let (began, slots_before) = (Instant::now(), slots());
    for _ in 0..50 {
        assert_eq!(check(&node, &keys[0]), by_redis(200));
        assert_eq!(check(&node, &keys[1]), by_redis(200));
        assert_eq!(check(&node, &keys[2]).0, 503);
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}: it waits for a dead primary",
        began.elapsed()
    );
    // Each attempt to connect requests a refresh.
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(check(&node, &keys[2]).0, 503);
    }
    let refreshes = f64::from(slots() - slots_before) / began.elapsed().as_secs_f64();
    assert!(refreshes < 6.5, "{refreshes} refreshes in a second");
    cluster.servers[2].restart();
    eventually("the primary is back", || check(&node, &keys[2]) == by_redis(200));
    eventually("every circuit breaker is closed", || node.get("/readyz").body.contains("ok"));
}

#[test]
fn r8_a_call_whose_reply_is_cut_is_not_sent_again() {
    let cluster = RedisCluster::start(0, 0);
    let proxies = cluster.behind_proxies();
    let node = node(&cluster, &[]);
    let keys = [0, 1].map(|server| key_at(&cluster, server));
    for key in &keys {
        assert_eq!(check(&node, key), by_redis(200));
    }
    proxies[0].cut_responses(true);
    assert_eq!(check(&node, &keys[0]), (503, "fallback".into()));
    assert_eq!(check(&node, &keys[1]), by_redis(200));
    proxies[0].cut_responses(false);
    let used = || {
        let peek = node.check(json!({"policy": "many", "key": keys[0], "cost": 0})).json();
        peek["limits"][0]["remaining"].as_u64().map(|left| 1_000_000 - left)
    };
    eventually("both workers are back", || node.get("/readyz").body.contains("ok"));
    assert_eq!(used(), Some(2), "the call whose reply was cut was charged once");
}

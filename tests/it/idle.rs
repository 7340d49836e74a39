//! A node without connections and without leases sleeps: what wakes it is its polls and heartbeats.
//! Needs programs besides Rust, so `make fast` skips it.

use std::time::Instant;

use serde_json::json;

use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

const CATALOG: &str = "
version: 1
policies:
  - { name: leased, throttle: { rate: 100000/s, burst: 100000 }, consistency: leased }
";

/// The wake-ups in a second, until there have been thirty.
fn wakeups(node: &Node) -> f64 {
    let (start, before) = (Instant::now(), node.sleeps());
    let count = || u32::try_from(node.sleeps() - before).unwrap();
    eventually("it has woken thirty times", || count() >= 30);
    f64::from(count()) / start.elapsed().as_secs_f64()
}

#[test]
fn an_idle_node_wakes_less_than_forty_times_a_second_also_once_its_leases_have_ended() {
    let in_memory = Node::with_catalog(CATALOG, &[]);
    eventually("it is idle", || wakeups(&in_memory) < 40.0);
    let redis = RedisServer::start();
    let node = Node::with_catalog(CATALOG, &["--store", &redis.url()]);
    eventually("a lease decides", || {
        node.check(json!({"policy": "leased", "key": "a"})).json()["decided_by"] == "lease"
    });
    eventually("it is idle again", || wakeups(&node) < 40.0);
}

#[test]
fn an_idle_node_makes_one_round_trip_for_each_poll_and_heartbeat() {
    let redis = RedisServer::start();
    let _node = Node::with_catalog(CATALOG, &["--store", &redis.url()]);
    redis.command(&["CONFIG", "RESETSTAT"]);
    let (mut connection, mut own) = (redis.connection(), 0);
    let mut number = |section: &str, name: &str| -> u64 {
        own += 1;
        let info: String = redis::cmd("INFO").arg(section).query(&mut connection).unwrap();
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.split(',').next());
        value.map_or(0, |value| value.parse::<u64>().unwrap())
            - if section == "stats" { own } else { 0 }
    };
    eventually("it has polled for five seconds", || {
        number("commandstats", "cmdstat_eval:calls=") >= 30
    });
    // Beside the scripts, a look at Redis' memory each second. A PING before each would double them.
    let round_trips = number("stats", "total_reads_processed:");
    assert!(round_trips < 50, "{round_trips} for 30 scripts");
}

//! R10: while Redis is down the plan's failure policy decides, within the deadline, and the node
//! reconnects without help.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::node::Node;
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::{eventually, free_port};

const CATALOG: &str = r#"
version: 1
policies:
  - { name: open, throttle: { rate: 1/h, burst: 8 } }
  - { name: closed, throttle: { rate: 1/h, burst: 8 }, on_store_failure: closed }
  - { name: local, throttle: { rate: 1/h, burst: 8 }, on_store_failure: local }
  - { name: tried, throttle: { rate: 1/h, burst: 1 }, on_store_failure: closed, mode: shadow }
"#;
const DEADLINE: &str = "100ms";

pub fn node(url: &str, flags: &[&str]) -> Node {
    let own = ["--store", url, "--check-deadline", DEADLINE, "--min-nodes", "2"];
    Node::with_catalog(CATALOG, &[&own, flags].concat())
}

fn check(node: &Node, policy: &str, cost: u64) -> (u16, String) {
    let answer = node.check(json!({"policy": policy, "key": "a", "cost": cost}));
    (answer.status, answer.json()["decided_by"].as_str().unwrap_or_default().to_owned())
}

/// Asserts that the failure policy of each plan decides in time, in the same way for every outage.
pub fn assert_decided_without_redis(node: &Node) {
    // A check with a cost, because a replica still answers a peek.
    eventually("the circuit breaker opens", || {
        check(node, "open", 1).1 == "fallback" && node.get("/readyz").body.contains("degraded")
    });
    let fallback = |status| (status, "fallback".to_owned());
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(check(node, "open", 1), fallback(200));
        assert_eq!(check(node, "closed", 1), fallback(503));
        assert_eq!(check(node, "tried", 1), fallback(200));
    }
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "60 checks took {:?}: they wait for a Redis that is down",
        began.elapsed()
    );
    // Half of 8, because there are at least two nodes.
    let local: Vec<u16> = (0..5).map(|_| check(node, "local", 1).0).collect();
    assert_eq!(local, [200, 200, 200, 200, 429]);
    assert_eq!(check(node, "local", 5), fallback(503), "a cost above the share");
    let answer = node.check(json!({"policy": "open", "key": "a"}));
    assert_eq!(
        (answer.header("ratelimit"), answer.json()["limits"].as_array().map(Vec::len)),
        (None, Some(0))
    );
    assert_eq!(node.get("/readyz").status, 200, "a lost Redis does not make a node unready");
}

/// Asserts that Redis decides again soon after it is back.
fn assert_recovers(node: &Node) {
    let began = Instant::now();
    eventually("Redis decides again", || check(node, "open", 0).1 == "redis");
    // The design says one second; three allow for a slow machine.
    assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    eventually("every worker has its connection again", || {
        node.metric("tollgate_breaker_open", "") == 0.0
    });
    assert!(node.get("/readyz").body.contains("ok"));
}

#[test]
fn a_killed_redis() {
    let mut redis = RedisServer::start();
    let node = node(&redis.url(), &[]);
    assert_eq!(check(&node, "open", 3), (200, "redis".into()));
    redis.kill();
    assert_decided_without_redis(&node);
    redis.restart();
    assert_recovers(&node);
    // Redis restarted empty, so exactly one more burst is admitted.
    assert_eq!(check(&node, "open", 8).0, 200);
    assert_eq!(check(&node, "open", 1).0, 429);
    assert!(node.metric("tollgate_store_errors_total", "unreachable") >= 1.0);
    assert!(node.metric("tollgate_breaker_opened_total", "") >= 1.0);
    assert!(node.metric("tollgate_decisions_total", "failed_closed") >= 20.0);
}

#[test]
fn a_node_without_a_catalog_file_admits_no_request_before_it_has_read_the_registry() {
    let mut redis = RedisServer::start();
    redis.kill();
    let node = Node::start(&["--store", &redis.url(), "--check-deadline", DEADLINE]);
    let status = |body: serde_json::Value| node.check(body).status;
    for _ in 0..3 {
        assert_eq!(status(json!({"api_key": "demo-key"})), 503);
        assert_eq!(status(json!({"key_id": "demo"})), 503);
        for query in ["", "?deny_status=403"] {
            let path = format!("/authz{query}");
            let response = node.send("GET", &path, &[("x-api-key", "demo-key")], "");
            assert_eq!(response.status, 503, "the key is neither allowed nor denied yet");
        }
        assert_eq!(status(json!({"policy": "login", "key": "a"})), 503);
        let ready = node.get("/readyz");
        assert_eq!((ready.status, ready.body.as_str()), (503, r#"{"status":"starting"}"#));
    }
    redis.restart();
    // The registry can be read now, and it is empty.
    eventually("the node is ready", || node.get("/readyz").status == 200);
    eventually("the example is in use", || status(json!({"api_key": "demo-key"})) == 200);
    redis.kill();
    eventually("the node is degraded", || node.get("/readyz").body.contains("degraded"));
    assert_eq!(status(json!({"api_key": "demo-key"})), 200);
}

#[test]
fn a_stopped_redis_whose_connections_stay_open() {
    let redis = RedisServer::start();
    let node = node(&redis.url(), &[]);
    assert_eq!(check(&node, "closed", 1), (200, "redis".into()));
    redis.signal(Signal::STOP);
    let began = Instant::now();
    assert_eq!(check(&node, "closed", 1), (503, "fallback".into()));
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "answered within the deadline, not {:?}",
        began.elapsed()
    );
    assert_decided_without_redis(&node);
    redis.signal(Signal::CONT);
    assert_recovers(&node);
    assert!(node.metric("tollgate_store_errors_total", "timeout") >= 3.0);
}

#[test]
fn an_idle_connection_that_redis_has_closed_is_replaced_before_a_check_uses_it() {
    let redis = RedisServer::start();
    let flags = ["--store", &redis.url(), "--check-deadline", "5s"];
    let node = Node::launch(Some(CATALOG), &flags, &[("RUST_LOG", "tollgate=debug")]);
    for round in 1..=5 {
        // Closes all connections but its own, as `timeout`, a load balancer or a quick restart do.
        redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        eventually("both workers have another connection", || {
            node.log().matches("an idle connection had ended").count() == 2 * round
        });
        for _ in 0..8 {
            assert_eq!(check(&node, "closed", 0), (200, "redis".into()));
        }
    }
    assert_eq!(node.metric("tollgate_breaker_opened_total", ""), 0.0);
}

#[test]
fn a_pooled_connection_that_redis_has_closed_is_replaced_before_a_poll_uses_it() {
    let redis = RedisServer::start();
    let node =
        Node::launch(Some(CATALOG), &["--store", &redis.url()], &[("RUST_LOG", "tollgate=debug")]);
    let rounds = 8;
    for _ in 0..rounds {
        redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        let polls = redis.script_calls();
        // The workers' new connections run the script as well.
        eventually("it has polled", || redis.script_calls() >= polls + 5);
    }
    // A poll that was in flight fails all the same.
    let failed = node.log().matches("could not be polled for changes").count();
    assert!(failed < rounds / 2, "{failed} polls failed");
}

#[test]
fn a_redis_slower_than_the_deadline() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.port());
    let node = node(&proxy.url(), &[]);
    assert_eq!(check(&node, "open", 1), (200, "redis".into()));
    proxy.delay(Duration::from_millis(700));
    assert_decided_without_redis(&node);
    proxy.delay(Duration::ZERO);
    assert_recovers(&node);
}

#[test]
fn a_redis_that_became_a_replica() {
    let redis = RedisServer::start();
    let node = node(&redis.url(), &[]);
    assert_eq!(check(&node, "open", 1), (200, "redis".into()));
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_decided_without_redis(&node);
    redis.command(&["REPLICAOF", "NO", "ONE"]);
    assert_recovers(&node);
    assert!(node.metric("tollgate_store_errors_total", "refused") >= 1.0);
}

#[test]
fn a_redis_that_is_busy_with_a_script_is_not_flooded_with_connections() {
    let redis = RedisServer::start();
    redis.command(&["CONFIG", "SET", "busy-reply-threshold", "1"]);
    let node = node(&redis.url(), &[]);
    assert_eq!(check(&node, "open", 1), (200, "redis".into()));
    let connections = || -> u64 {
        let stats = redis.command_text(&["INFO", "stats"]);
        let of = |line: &str| line.strip_prefix("total_connections_received:")?.parse().ok();
        stats.lines().find_map(of).unwrap()
    };
    let (before, began) = (connections(), Instant::now());
    std::thread::scope(|scope| {
        scope.spawn(|| redis.try_command(&["EVAL", "while true do end", "0"]));
        assert_decided_without_redis(&node);
        // Accepted connections whose calls fail are no reason to open the next one at once.
        while began.elapsed() < Duration::from_secs(2) {
            assert_eq!(check(&node, "open", 1), (200, "fallback".into()));
        }
        redis.command(&["SCRIPT", "KILL"]);
    });
    assert_recovers(&node);
    let opened = connections() - before;
    // Each worker backs off up to a quarter of a second, and the heartbeat and others retry slowly.
    let most = 40 + 40 * began.elapsed().as_secs();
    assert!(opened <= most, "{opened} connections in {:?}", began.elapsed());
    assert!(node.metric("tollgate_store_errors_total", "refused") >= 1.0);
}

#[test]
fn a_redis_out_of_memory() {
    let redis = RedisServer::start();
    let node = node(&redis.url(), &[]);
    assert_eq!(check(&node, "open", 1), (200, "redis".into()));
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(check(&node, "closed", 1), (503, "fallback".into()));
    assert_decided_without_redis(&node);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_recovers(&node);
}

#[test]
fn a_redis_that_has_lost_the_script_is_sent_it_again() {
    let redis = RedisServer::start();
    let node = node(&redis.url(), &[]);
    for _ in 0..5 {
        assert_eq!(check(&node, "closed", 1), (200, "redis".into()));
        redis.command(&["SCRIPT", "FLUSH"]);
    }
    assert_eq!(check(&node, "closed", 3), (200, "redis".into()));
    assert_eq!(check(&node, "closed", 1).0, 429, "each check was charged once");
}

#[test]
fn local_shares_survive_a_redis_that_comes_and_goes() {
    let mut redis = RedisServer::start();
    let node = node(&redis.url(), &[]);
    let mut admitted = 0;
    for _ in 0..3 {
        redis.kill();
        eventually("the circuit breakers of both workers are open", || {
            check(&node, "open", 1);
            node.metric("tollgate_breaker_open", "") == 2.0
        });
        admitted += (0..6).filter(|_| check(&node, "local", 1).0 == 200).count();
        redis.restart();
        assert_recovers(&node);
    }
    assert_eq!(admitted, 4, "the share is spent once, not at every outage");
}

#[test]
fn tls_and_acl_users_work() {
    let dir = tempfile::tempdir().unwrap();
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let acl = "on >s3cret ~tg:* +@connection +eval +evalsha +time +mget +set +zadd +zcard +zrem +zremrangebyscore +expire";
    fs::write(path("users.acl"), format!("user default off\nuser tollgate {acl}\n")).unwrap();
    let redis = RedisServer::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &path("cert.pem"),
        "--tls-key-file",
        &path("key.pem"),
        "--tls-auth-clients",
        "no",
        "--aclfile",
        &path("users.acl"),
    ]);
    let url = format!("rediss://tollgate:s3cret@localhost:{port}");
    let trusting = Node::with_catalog(
        CATALOG,
        &["--store", &url, "--redis-ca", &path("cert.pem"), "--check-deadline", "5s"],
    );
    assert_eq!(check(&trusting, "closed", 1), (200, "redis".into()));
    eventually("its heartbeat works", || trusting.metric("tollgate_live_nodes", "") == 1.0);
    assert!(!trusting.log().contains("s3cret"));
    assert!(redis.path().exists());
}

#[test]
fn live_nodes_are_those_with_a_heartbeat() {
    let redis = RedisServer::start();
    let flags = ["--store", &redis.url(), "--drain-delay", "0s"];
    let [one, other] = [Node::start(&flags), Node::start(&flags)];
    eventually("both nodes see two", || {
        [&one, &other].iter().all(|node| node.metric("tollgate_live_nodes", "") == 2.0)
    });
    assert_eq!(other.stop(), Some(0));
    eventually("the other node sees one", || one.metric("tollgate_live_nodes", "") == 1.0);
}

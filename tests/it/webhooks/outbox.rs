//! The outbox in Redis: each event of its nodes is delivered once, also after failures.
//! Needs programs besides Rust, so `make fast` skips it.

use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use super::failing::unreachable_receiver;
use super::{CATALOG, SECRET, node, uses};
use crate::support::eventually;
use crate::support::http::KeepAlive;
use crate::support::node::Node;
use crate::support::receiver::WebhookReceiver;
use crate::support::redis::RedisServer;
use crate::support::redis_cluster::RedisCluster;

#[test]
fn each_threshold_arrives_once_from_two_nodes_under_load() {
    let (redis, receiver) = (RedisServer::start(), WebhookReceiver::start());
    let nodes = [(); 2].map(|()| node(&receiver.url(), &["--store", &redis.url()]));
    std::thread::scope(|scope| {
        for client in 0..6 {
            let node = &nodes[client % 2];
            scope.spawn(move || {
                let mut kept = KeepAlive::open(node.address()).unwrap();
                for _ in 0..80 {
                    for key in ["key-of-a", "key-of-b"] {
                        kept.post("/check", &json!({"api_key": key}).to_string()).unwrap();
                    }
                }
            });
        }
    });
    for key in ["a", "b"] {
        eventually("all events arrive", || receiver.thresholds_of(key) == [80, 90, 100]);
    }
    for delivery in receiver.deliveries() {
        let data = delivery.data();
        let used = data["used"].as_u64().unwrap();
        assert!(used * 100 >= data["threshold"].as_u64().unwrap() * 200 && used <= 200, "{data}");
    }
    // Events are in the outbox before a node has ended, and delivered events are not.
    assert_eq!(nodes.map(Node::stop), [Some(0), Some(0)]);
    assert_eq!(redis.command(&["ZCARD", "tg:{webhooks}"]), redis::Value::Int(0));
    assert_eq!(redis.command(&["HLEN", "tg:{webhooks}:events"]), redis::Value::Int(0));
    let again = node(&receiver.url(), &["--store", &redis.url()]);
    assert_eq!(uses(&again, "a", 1), 429);
    assert_eq!(uses(&again, "b", 0), 200);
    assert_eq!(again.stop(), Some(0));
    assert_eq!(receiver.deliveries().len(), 6, "a node with an empty cache repeats no event");
}

#[test]
fn on_a_redis_cluster_the_outbox_is_shared_as_well() {
    let (cluster, receiver) = (RedisCluster::start(0, 0), WebhookReceiver::start());
    receiver.respond_with(500);
    let nodes = [(); 2].map(|()| node(&receiver.url(), &["--store", &cluster.url()]));
    for (node, cost) in nodes.iter().zip([170, 30]) {
        assert_eq!(uses(node, "a", cost), 200);
    }
    eventually("all are attempted", || receiver.deliveries().len() >= 6);
    receiver.respond_with(200);
    let taken = |node: &Node| node.metric("tollgate_webhook_deliveries_total", "\"delivered\"");
    eventually("all are delivered", || nodes.iter().map(taken).sum::<f64>() == 3.0);
    let mut thresholds = receiver.thresholds_of("a");
    thresholds.dedup();
    assert_eq!(thresholds, [80, 90, 100]);
}

#[test]
fn a_grant_makes_room_and_repeats_no_event() {
    let (redis, receiver) = (RedisServer::start(), WebhookReceiver::start());
    let environment = [
        ("TOLLGATE_WEBHOOK_URL", &*receiver.url()),
        ("TOLLGATE_WEBHOOK_SECRET", SECRET),
        ("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"),
        ("TOLLGATE_ADMIN_TOKEN", "a-token-for-tests"),
    ];
    let store = redis.url();
    let start = || Node::launch(Some(CATALOG), &["--store", &store], &environment);
    let node = start();
    assert_eq!(uses(&node, "a", 160), 200);
    eventually("the event arrives", || receiver.thresholds_of("a") == [80]);
    let grant = json!({"patchOperations": [{"op": "replace", "path": "/grant", "value": "100"}]});
    crate::control::call(&node, "PATCH", "/usageplans/daily/keys/a/usage", grant);
    drop(node);
    // Another node, whose cache is empty.
    let node = start();
    assert_eq!(uses(&node, "a", 99), 200);
    assert_eq!(uses(&node, "a", 1), 200);
    assert_eq!(uses(&node, "a", 20), 200);
    eventually("the event of the next threshold arrives", || {
        receiver.thresholds_of("a") == [80, 90]
    });
    assert_eq!(receiver.deliveries().last().unwrap().data()["used"], 180, "less what was granted");
}

#[test]
fn secrets_and_values_are_in_no_log_metric_or_redis_key() {
    let (redis, receiver) = (RedisServer::start(), WebhookReceiver::start());
    receiver.respond_with(500);
    let url = receiver.url().replace("/hooks", "/T0KEN-in-a-path");
    let environment = [
        ("TOLLGATE_WEBHOOK_URL", &*url),
        ("TOLLGATE_WEBHOOK_SECRET", SECRET),
        ("RUST_LOG", "debug"),
    ];
    let node = Node::launch(Some(CATALOG), &["--store", &redis.url()], &environment);
    assert_eq!(uses(&node, "a", 200), 200);
    eventually("deliveries are attempted", || receiver.deliveries().len() >= 3);
    eventually("the failure is logged", || node.log().contains("500"));
    let stored = ["KEYS *", "HGETALL tg:{webhooks}:events", "ZRANGE tg:{webhooks} 0 -1"]
        .map(|words| format!("{:?}", redis.command(&words.split(' ').collect::<Vec<_>>())));
    assert!(stored[1].contains("quota.threshold"), "{stored:?}");
    let help = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["serve", "--help"])
        .envs(environment)
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("--webhook-url"));
    let said = [node.log(), node.get("/metrics").body, help, stored.concat()].concat();
    for secret in [&SECRET[6..], "T0KEN-in-a-path", "key-of-a"] {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
}

#[test]
fn a_receiver_that_comes_back_gets_the_events_of_all_nodes_once() {
    let redis = RedisServer::start();
    let (port, url) = unreachable_receiver();
    let [first, second] = [(); 2].map(|()| node(&url, &["--store", &redis.url()]));
    assert_eq!(uses(&first, "a", 200), 200);
    let failed = |node: &Node| node.metric("tollgate_webhook_deliveries_total", "\"failed\"");
    eventually("deliveries fail", || failed(&first) + failed(&second) >= 3.0);
    first.signal(Signal::KILL);
    drop(first);
    let receiver = WebhookReceiver::start_on(port);
    eventually("the other node delivers", || receiver.thresholds_of("a").len() >= 3);
    assert_eq!(second.stop(), Some(0));
    assert_eq!(receiver.thresholds_of("a"), [80, 90, 100]);
}

#[test]
fn a_stopping_node_records_its_remaining_events() {
    let redis = RedisServer::start();
    let (port, url) = unreachable_receiver();
    let first = node(&url, &["--store", &redis.url()]);
    assert_eq!(uses(&first, "a", 160), 200);
    assert_eq!(first.stop(), Some(0));
    assert_eq!(redis.command(&["ZCARD", "tg:{webhooks}"]), redis::Value::Int(1));
    let receiver = WebhookReceiver::start_on(port);
    let _second = node(&url, &["--store", &redis.url()]);
    eventually("another node delivers it", || receiver.thresholds_of("a") == [80]);
}

#[test]
fn events_are_recorded_once_redis_accepts_writes_again() {
    let (redis, receiver) = (RedisServer::start(), WebhookReceiver::start());
    let node = node(&receiver.url(), &["--store", &redis.url()]);
    // Checks are judged, but the script that records events fails as a whole.
    redis.command(&["ACL", "SETUSER", "default", "-zadd"]);
    assert_eq!(uses(&node, "a", 160), 200);
    eventually("the event waits", || node.log().contains("wait to be recorded"));
    assert!(receiver.deliveries().is_empty());
    redis.command(&["ACL", "SETUSER", "default", "+zadd"]);
    eventually("the event arrives", || receiver.thresholds_of("a") == [80]);
    assert_eq!(node.stop(), Some(0));
}

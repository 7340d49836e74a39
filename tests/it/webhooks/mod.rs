//! Webhooks: each threshold of a key's quota is delivered once and signed.

mod failing;

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::http::KeepAlive;
use crate::support::node::Node;
use crate::support::receiver::{Delivery, WebhookReceiver};
use crate::support::redis::RedisServer;
use crate::support::redis_cluster::RedisCluster;
use crate::support::{eventually, repository};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

const CATALOG: &str = r"
version: 1
plans:
  - id: daily
    throttle: { rate: 100000/s, burst: 100000 }
    quota: { limit: 200, period: day }
    limits: [ { name: tokens, unit: total_tokens, quota: { limit: 1000, period: month } } ]
  - { id: tried, mode: shadow, quota: { limit: 10, period: day } }
keys:
  - { id: a, value: key-of-a, plans: [daily], customer_id: acme }
  - { id: b, value: key-of-b, plans: [daily] }
  - { id: t, value: key-of-t, plans: [tried] }
policies:
  - { name: p, quota: { limit: 10, period: day } }
";

fn node(url: &str, flags: &[&str]) -> Node {
    node_with(CATALOG, url, flags)
}

fn node_with(catalog: &str, url: &str, flags: &[&str]) -> Node {
    let environment = [
        ("TOLLGATE_WEBHOOK_URL", url),
        ("TOLLGATE_WEBHOOK_SECRET", SECRET),
        ("TOLLGATE_WEBHOOK_RETRY_AFTER", "1ms"),
        ("TOLLGATE_CHECK_DEADLINE", "10s"),
        ("TOLLGATE_DRAIN_DELAY", "0s"),
    ];
    Node::launch(Some(catalog), flags, &environment)
}

/// Sends a check of this cost for a key; returns the status.
fn uses(node: &Node, key: &str, cost: u64) -> u16 {
    node.check(json!({"api_key": format!("key-of-{key}"), "cost": cost})).status
}

/// Returns true if Python's HMAC of the secret and the signed text is one of the signatures.
fn python_verifies(delivery: &Delivery, secret: &str) -> bool {
    const VERIFY: &str = r"
import base64, hashlib, hmac, sys
secret, id, timestamp, signatures = sys.argv[1:]
key = base64.b64decode(secret.removeprefix('whsec_'))
signed = f'{id}.{timestamp}.'.encode() + sys.stdin.buffer.read()
own = 'v1,' + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
sys.exit(not any(hmac.compare_digest(own, one) for one in signatures.split(' ')))
";
    let header = |name: &str| delivery.headers[name].clone();
    let mut python = Command::new(repository("target/python/bin/python"))
        .args(["-c", VERIFY, secret, delivery.id()])
        .args([header("webhook-timestamp"), header("webhook-signature")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(delivery.body.as_bytes()).unwrap();
    python.wait().unwrap().success()
}

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
fn an_event_is_signed_by_each_secret_and_names_the_key_and_its_usage() {
    let receiver = WebhookReceiver::start();
    let secrets = format!("{SECRET}, {OLD_SECRET}");
    let environment =
        [("TOLLGATE_WEBHOOK_URL", &*receiver.url()), ("TOLLGATE_WEBHOOK_SECRET", &secrets)];
    let node = Node::launch(Some(CATALOG), &["--webhook-thresholds", "50"], &environment);
    let cost = json!({"requests": 1, "total_tokens": 600});
    assert_eq!(node.check(json!({"api_key": "key-of-a", "cost": cost})).status, 200);
    eventually("the event arrives", || receiver.thresholds_of("a") == [50]);
    let delivery = receiver.deliveries().remove(0);
    assert_eq!(delivery.path, "/hooks?of=tollgate");
    assert_eq!(delivery.headers["content-type"], "application/json");
    for secret in [SECRET, OLD_SECRET] {
        assert!(python_verifies(&delivery, secret));
    }
    let altered = Delivery { body: delivery.body.replace("600", "601"), ..delivery.clone() };
    assert!(!python_verifies(&altered, SECRET));
    assert!(!python_verifies(&delivery, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    let data = delivery.data();
    let month = crate::control::usage::today(0).first_of_month();
    assert_eq!(data["period_start"], format!("{month}T00:00:00Z"));
    let members = ["key", "customer_id", "plan", "limit", "unit", "period"];
    assert_eq!(
        members.map(|member| data[member].as_str().unwrap()),
        ["a", "acme", "daily", "daily/tokens", "total_tokens", "month"]
    );
    assert_eq!((&data["used"], &data["quota"]), (&json!(600), &json!(1000)));
}

#[test]
fn reads_refusals_and_batches_reach_thresholds_and_shadow_limits_do_not() {
    let receiver = WebhookReceiver::start();
    let node = node(&receiver.url(), &[]);
    let batch = json!({"checks": [
        {"api_key": "key-of-t", "cost": 10},
        {"policy": "p", "key": "somebody", "cost": 10},
        {"api_key": "key-of-b", "cost": 170},
    ]});
    assert_eq!(node.send("POST", "/check/batch", &[], &batch.to_string()).status, 200);
    eventually("a batch reaches the threshold", || receiver.thresholds_of("b") == [80]);
    let authz = || node.send("GET", "/authz", &[("x-api-key", "key-of-b")], "");
    for _ in 0..10 {
        assert_eq!(authz().status, 200);
    }
    eventually("forward authentication reaches the threshold", || {
        receiver.thresholds_of("b") == [80, 90]
    });
    assert_eq!(uses(&node, "b", 21), 429);
    assert_eq!(uses(&node, "a", 159), 200);
    assert_eq!(uses(&node, "a", 0), 200);
    assert_eq!(uses(&node, "a", 1), 200);
    eventually("usage equal to the threshold reaches it", || receiver.thresholds_of("a") == [80]);
    assert_eq!(node.stop(), Some(0));
    assert_eq!(receiver.deliveries().len(), 3);
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

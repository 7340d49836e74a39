//! Three real nodes on one Redis: their decisions are those of the reference implementation.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::http::KeepAlive;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

const DECISIONS: usize = 100_000;

/// A catalog whose limits depend on `turn`, so that a reload raises some of them and lowers others.
fn catalog(turn: usize) -> String {
    let (burst, rate) = ([50, 20, 80][turn % 3], ["100/s", "1234567/d", "30/s"][turn % 3]);
    format!(
        r#"
version: 1
apis: [ {{ id: inference, stages: [ {{ name: prod, throttle: {{ rate: 2000/s, burst: 500 }}, methods: {{ "POST /v1/x": {{ throttle: {{ rate: 500/s, burst: 100 }} }} }} }} ] }} ]
plans:
  - id: free
    api_stages: [ {{ api: inference, stage: prod }} ]
    throttle: {{ rate: {rate}, burst: {burst} }}
    quota: {{ limit: 20000, period: day, time_zone: Asia/Kathmandu }}
    limits: [ {{ name: tpm, unit: total_tokens, throttle: {{ rate: 100000/min, burst: 100000 }} }} ]
keys: [ {{ id: hot, value: hot-key, plans: [free] }} ]
policies:
  - {{ name: many, throttle: {{ rate: {rate}, burst: {burst} }}, limits: [ {{ name: tried, throttle: {{ rate: 1/s, burst: 3 }}, mode: shadow }} ] }}
"#
    )
}

fn body(number: usize) -> String {
    let batch = |checks: Vec<serde_json::Value>| json!({ "checks": checks }).to_string();
    let hot = json!({"api_key": "hot-key", "api": "inference", "stage": "prod", "method": "POST", "path": "/v1/x", "cost": {"total_tokens": number % 97}});
    let many = |offset: usize| json!({"policy": "many", "key": format!("u{}", (number * 7 + offset * 13) % 500), "cost": (number + offset) % 4});
    batch((0..20).map(|offset| if offset % 3 == 0 { hot.clone() } else { many(offset) }).collect())
}

#[test]
fn three_nodes_decide_like_the_reference_one_for_one() {
    let redis = RedisServer::start();
    let dir = tempfile::tempdir().unwrap();
    let record =
        |number: usize| dir.path().join(format!("record{number}")).to_str().unwrap().to_owned();
    let nodes: Vec<Node> = (0..3)
        .map(|number| {
            let flags = [
                "--store",
                &redis.url(),
                "--check-deadline",
                "10s",
                "--drain-delay",
                "0s",
                "--denial-memo",
                "false",
                "--record",
                &record(number),
            ];
            Node::with_catalog(&catalog(0), &flags)
        })
        .collect();
    let sent = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..9 {
            let (nodes, sent) = (&nodes, &sent);
            scope.spawn(move || {
                let mut connection = KeepAlive::open(nodes[client % 3].address()).unwrap();
                // Single checks between the batches, so that script calls carry both.
                for number in (client..).step_by(9) {
                    if sent.fetch_add(21, Ordering::Relaxed) > DECISIONS + 2_000 {
                        break;
                    }
                    let answer = connection.post("/check/batch", &body(number)).unwrap();
                    assert_eq!(answer.status, 200);
                    assert!(!answer.body.contains("fallback"), "{}", answer.body);
                    let alone = json!({"policy": "many", "key": "alone"}).to_string();
                    assert!(
                        [200, 429].contains(&connection.post("/check", &alone).unwrap().status)
                    );
                }
            });
        }
        let (nodes, sent) = (&nodes, &sent);
        scope.spawn(move || {
            let mut turn = 0;
            while sent.load(Ordering::Relaxed) <= DECISIONS + 2_000 {
                turn += 1;
                // One node at a time, so that nodes judge by different revisions for a while.
                fs::write(nodes[turn % 3].catalog_file(), catalog(turn)).unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
    });
    let reloaded: f64 =
        nodes.iter().map(|node| node.metric("tollgate_catalog_reloads_total", "ok")).sum();
    assert!(reloaded >= 3.0, "{reloaded} reloads");
    for node in nodes {
        assert_eq!(node.stop(), Some(0));
    }
    let history: String =
        (0..3).map(|number| fs::read_to_string(record(number)).unwrap()).collect();
    let refused = history.matches(r#""allowed":false"#).count();
    assert!(refused > 1_000, "only {refused} refusals prove little");
    match tollgate::engine::replay(&history) {
        Ok(decisions) => assert!(decisions >= DECISIONS, "only {decisions} decisions"),
        Err(different) => panic!("{different}"),
    }
}

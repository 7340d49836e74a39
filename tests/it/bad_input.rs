//! R9: invalid HTTP requests get a 4xx response. Invalid checks are in `invalid_checks`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http;
use crate::support::node::Node;

#[test]
fn a_cost_of_2_to_the_53_is_valid_and_exceeds_every_limit() {
    let node = Node::start(&[]);
    let answer = node.check(json!({"api_key": "demo-key", "cost": 9_007_199_254_740_992_u64}));
    assert_eq!((answer.status, answer.json()["violated"].as_str()), (422, Some("free/throttle")));
}

#[test]
fn unknown_paths_get_404_with_the_endpoints_and_other_methods_405() {
    let node = Node::start(&[]);
    assert_eq!((node.get("/nope").status, node.get("/check").status), (404, 405));
    assert!(node.get("/nope").body.contains("/check"));
}

#[test]
fn a_body_over_64_kib_gets_a_413_response() {
    let node = Node::start(&[]);
    let fits = format!(r#"{{"api_key":"demo-key"{}}}"#, " ".repeat(60_000));
    assert_eq!(node.send("POST", "/check", &[], &fits).status, 200);
    for size in [65_537, 100_000, 131_072] {
        assert_eq!(node.send("POST", "/check", &[], &" ".repeat(size)).status, 413, "{size}");
    }
    let batch = format!(r#"{{"checks":[]{}}}"#, " ".repeat(1_000_000));
    assert_eq!(node.send("POST", "/check/batch", &[], &batch).status, 200);
    assert_eq!(node.send("POST", "/check/batch", &[], &" ".repeat(1_100_000)).status, 413);
}

#[test]
fn too_many_or_too_large_headers_get_431() {
    let node = Node::start(&[]);
    let many = "x: y\r\n".repeat(200);
    let large = format!("x: {}\r\n", "y".repeat(100_000));
    for bomb in [many, large] {
        let request = format!("POST /check HTTP/1.1\r\nhost: x\r\n{bomb}content-length: 0\r\n\r\n");
        let answer = http::send_raw(node.address(), request.as_bytes()).unwrap();
        assert_eq!(answer.status, 431);
    }
}

#[test]
fn slow_requests_time_out() {
    let node = Node::start(&[]);
    let address = node.address().to_owned();
    let slow = |first: &'static [u8]| {
        let address = address.clone();
        std::thread::spawn(move || http::is_cut_off_within(&address, first, Duration::from_mins(1)))
    };
    let senders = [
        slow(b"POST /check HT"),
        slow(b"POST /check HTTP/1.1\r\nhost: x\r\ncontent-le"),
        slow(b"POST /check HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{\"api_key\""),
    ];
    for sender in senders {
        assert!(sender.join().unwrap(), "still connected after a minute");
    }
    assert_eq!(node.check(json!({"api_key": "demo-key"})).status, 200);
}

#[test]
fn a_batch_of_too_many_charges_is_refused_whole_and_charges_nothing() {
    let limits: Vec<String> = (0..10)
        .map(|number| format!("{{ name: l{number}, throttle: {{ rate: 1/h, burst: 5000 }} }}"))
        .collect();
    let catalog =
        format!("version: 1\npolicies:\n  - {{ name: wide, limits: [{}] }}\n", limits.join(", "));
    let node = Node::with_catalog(&catalog, &[]);
    let policies: Vec<Value> =
        (0..25).map(|key| json!({"policy": "wide", "key": key.to_string()})).collect();
    let batch = |checks: usize| json!({"checks": vec![json!({"policies": policies}); checks]});
    let send = |checks: usize| node.send("POST", "/check/batch", &[], &batch(checks).to_string());
    let mut reserving = batch(263);
    reserving["checks"][0]["reservation"] = json!({});
    let reserving = || node.send("POST", "/check/batch", &[], &reserving.to_string());
    for refused in [send(263), reserving()] {
        assert_eq!(refused.status, 413, "{refused:?}");
        assert!(refused.body.contains("65536") && refused.body.contains("checks"), "{refused:?}");
    }
    let accepted = send(262);
    assert_eq!(accepted.status, 200, "{accepted:?}");
    let results = accepted.json();
    let first = &results["results"][0]["limits"][0];
    assert_eq!(first["remaining"], 4999, "the refused batch was not charged: {first}");
}

//! R9: invalid requests get a 4xx response that names the field, and no call reaches Redis.

use std::time::Duration;

use serde_json::json;

use crate::support::http;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

#[test]
#[rustfmt::skip]
fn problems_name_the_field_and_invalid_checks_never_reach_redis() {
    let redis = RedisServer::start();
    let node = Node::start(&["--store", &redis.url(), "--check-deadline", "5s"]);
    let long = "k".repeat(1025);
    let long_path = format!("/{}", "p".repeat(2048));
    let long_key = format!(r#"{{"policy":"login","key":"{long}"}}"#);
    let too_long_path = format!(r#"{{"api_key":"demo-key","path":"{long_path}"}}"#);
    let with_cost = |cost: &str| format!(r#"{{"api_key":"demo-key","cost":{cost}}}"#);
    let costs = ["-1", "1.5", "1e400", "9007199254740993", "18446744073709551616", "\"1\"", "true", "[1]", "1e3"].map(with_cost);
    let units = ["-1", "0.5", "\"x\"", "null", "9007199254740993"]
        .map(|cost| with_cost(&format!(r#"{{"total_tokens":{cost}}}"#)));
    let mut cases: Vec<(&str, &str)> = vec![
        // field            body
        ("body",            "hello"),
        ("body",            ""),
        ("body",            "[]"),
        ("body",            "{\"api_key\":\"demo-key\"} x"),
        ("cost",            "{\"api_key\":\"demo-key\",\"cost\":NaN}"),
        ("api_key",         "{}"),
        ("api_key",         "{\"api_key\":5}"),
        ("api_key",         "{\"api_key\":\"\"}"),
        ("api_key",         "{\"api_key\":\"a\\u0000b\"}"),
        ("colour",          "{\"api_key\":\"demo-key\",\"colour\":1}"),
        ("key",             "{\"policy\":\"login\"}"),
        ("policy",          "{\"key\":\"x\"}"),
        ("key",             "{\"policy\":\"login\",\"key\":\"\"}"),
        ("key",             "{\"policy\":\"login\",\"key\":\"a\\nb\"}"),
        ("key",             &long_key),
        ("policy",          "{\"policy\":\"nope\",\"key\":\"x\"}"),
        ("policies[1].policy", "{\"policies\":[{\"policy\":\"login\",\"key\":\"x\"},{\"policy\":\"nope\",\"key\":\"x\"}]}"),
        ("policies[0].key", "{\"policies\":[{\"policy\":\"login\",\"key\":7}]}"),
        ("policies[1].policy", "{\"policies\":[{\"policy\":\"login\",\"key\":\"x\"},{\"policy\":\"login\",\"key\":\"x\"}]}"),
        ("api",             "{\"api_key\":\"demo-key\",\"api\":\"nope\",\"stage\":\"prod\"}"),
        ("stage",           "{\"api_key\":\"demo-key\",\"api\":\"inference\",\"stage\":\"nope\"}"),
        ("stage",           "{\"api_key\":\"demo-key\",\"api\":\"inference\"}"),
        ("api",             "{\"api_key\":\"demo-key\",\"stage\":\"prod\"}"),
        ("method",          "{\"api_key\":\"demo-key\",\"method\":\"GE T\"}"),
        ("path",            "{\"api_key\":\"demo-key\",\"path\":\"no-slash\"}"),
        ("path",            "{\"api_key\":\"demo-key\",\"path\":\"/%zz\"}"),
        ("path",            "{\"api_key\":\"demo-key\",\"path\":\"/a%00\"}"),
        ("path",            &too_long_path),
        ("cost.tokens",     "{\"api_key\":\"demo-key\",\"cost\":{\"tokens\":1}}"),
        ("cost",            "{\"api_key\":\"demo-key\",\"cost\":{\"requests\":1,\"requests\":2}}"),
        ("key_id",          "{\"api_key\":\"demo-key\",\"key_id\":\"demo\"}"),
    ];
    cases.extend(costs.iter().map(|body| ("cost", &**body)));
    cases.extend(units.iter().map(|body| ("cost.total_tokens", &**body)));
    let before = redis.script_calls();
    for (field, body) in cases {
        let answer = node.send("POST", "/check", &[], body);
        let problem = (answer.status, answer.json()["field"].as_str().map(str::to_owned));
        assert_eq!(problem, (400, Some(field.into())), "{body}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{body}");
    }
    // Only heartbeats may have run in between.
    assert!(redis.script_calls() - before <= 30, "{} calls", redis.script_calls() - before);
    assert_eq!(node.metric("tollgate_store_batch_checks_count", ""), 0.0);
}

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

//! R9: invalid checks get a 400 response that names the field, and no call reaches Redis.
//! Needs programs besides Rust, so `make fast` skips it.

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

//! `GET /tail`: decisions as server-sent events, and the refusals of `--log-refusals`.

use serde_json::{Value, json};

use super::{TOKEN, as_bearer, node};
use crate::support::eventually;
use crate::support::http::EventStream;
use crate::support::node::Node;

const CATALOG: &str = "
version: 1
apis:
  - id: shop
    stages:
      - { name: prod, methods: { 'GET /items/{id}': { throttle: { rate: 1/h, burst: 2 } } } }
plans:
  - { id: basic, throttle: { rate: 1/h, burst: 9 } }
  - { id: other, throttle: { rate: 1/h, burst: 1 } }
keys:
  - { id: alice, value: the-value-of-alice, plans: [basic] }
  - { id: bob, value: the-value-of-bob, plans: [other] }
policies:
  - { name: login, throttle: { rate: 1/h, burst: 1 } }
";

fn tail(node: &Node, query: &str) -> EventStream {
    let bearer = ("authorization", "Bearer the-token-for-reading");
    let mut stream = EventStream::open(node.admin(), &format!("/tail?{query}"), &[bearer]);
    assert_eq!(stream.status, 200);
    let (name, start) = stream.next_event().unwrap();
    let port = node.address().rsplit(':').next().unwrap();
    assert!(name == "start" && start["node"].as_str().unwrap().ends_with(port), "{name} {start}");
    stream
}

fn visit(node: &Node, request_id: &str) -> Option<String> {
    let body = json!({
        "api_key": "the-value-of-alice", "api": "shop", "stage": "prod",
        "method": "GET", "path": "/items/of-a-client",
    });
    let response = node.send("POST", "/check", &[("x-request-id", request_id)], &body.to_string());
    response.header("x-request-id").map(str::to_owned)
}

#[test]
fn a_tail_shows_who_is_refused_where_and_in_which_request() {
    let node = node(Some(CATALOG), &[]);
    let mut stream = tail(&node, "");
    for number in 0..3 {
        let id = format!("request-{number}");
        assert_eq!(visit(&node, &id), Some(id));
    }
    let mut event = stream.next_decision();
    let members = event.as_object_mut().unwrap();
    let (at, node_name) = (members.remove("at").unwrap(), members.remove("node").unwrap());
    assert!(at.as_str().is_some_and(|at| at.len() == 24 && at.ends_with('Z')), "{at}");
    assert!(node_name.is_string());
    let wait = members.remove("retryAfterMs").and_then(|wait| wait.as_u64()).unwrap();
    assert!((3_000_000..=3_600_000).contains(&wait), "{wait}");
    let expected = json!({
        "outcome": "refused", "keyId": "alice", "plan": "basic",
        "limit": "stage:shop/prod/GET /items/{id}/throttle", "api": "shop", "stage": "prod",
        "method": "GET", "pattern": "GET /items/{id}", "decidedBy": "memory",
        "requestId": "request-2",
    });
    assert_eq!(event, expected);
    // A client's text is within one line of JSON.
    node.check(json!({"policy": "login", "key": "a\u{2028}\"b\u{85}event: x"}));
    let key = "c \"}\n\ndata: {\"forged\": 1".replace('\n', "\u{a0}");
    for _ in 0..2 {
        node.check(json!({"policy": "login", "key": key}));
    }
    let event = stream.next_decision();
    assert_eq!((&event["key"], &event["limit"]), (&json!(key), &json!("policy:login/throttle")));
    assert!(event["keyId"].is_null() && event["requestId"].is_null(), "{event}");
}

#[test]
fn a_filter_selects_plan_key_limit_and_outcome_and_all_decisions_on_request() {
    let node = node(Some(CATALOG), &[]);
    let queries = [
        "plan=other",
        "key=bob",
        "limit=other%2Fthrottle",
        "outcome=allowed&key=a%40b.example",
        "all=true&plan=other",
        "outcome=too_large",
    ];
    let mut streams = queries.map(|query| tail(&node, query));
    for _ in 0..10 {
        node.check(json!({"api_key": "the-value-of-alice"}));
    }
    node.check(json!({"policy": "login", "key": "a@b.example"}));
    for cost in [1, 1, 500] {
        node.check(json!({"api_key": "the-value-of-bob", "cost": cost}));
    }
    let seen = streams.each_mut().map(|stream| {
        let event = stream.next_decision();
        [&event["outcome"], &event["keyId"], &event["key"]]
            .map(|value| value.as_str().map(str::to_owned))
    });
    let bob = |outcome: &str| [Some(outcome.to_owned()), Some("bob".to_owned()), None];
    let visitor = [Some("allowed".to_owned()), None, Some("a@b.example".to_owned())];
    let refused = || bob("refused");
    let expected = [refused(), refused(), refused(), visitor, bob("allowed"), bob("too_large")];
    assert_eq!(seen, expected);
}

#[test]
fn a_sample_keeps_its_rate_and_says_how_many_events_it_left_out() {
    let node = node(Some(CATALOG), &[]);
    let mut stream = tail(&node, "rate=1&limit=policy%3Alogin%2Fthrottle");
    let checks: Vec<Value> = vec![json!({"policy": "login", "key": "a"}); 501];
    let batch = json!({ "checks": checks }).to_string();
    assert_eq!(node.send("POST", "/check/batch", &[], &batch).status, 200);
    let (mut shown, mut missed) = (0, 0);
    while shown + missed < 500 {
        let (name, data) = stream.next_event().unwrap();
        match &*name {
            "decision" => shown += 1,
            _ => missed += data["sampledOut"].as_u64().unwrap() + data["dropped"].as_u64().unwrap(),
        }
    }
    assert!((1..=3).contains(&shown) && shown + missed == 500, "{shown} {missed}");
}

#[test]
fn a_ninth_reader_is_refused_until_another_leaves_and_a_stop_ends_all_streams() {
    let node = node(Some(CATALOG), &["--drain-delay", "3s"]);
    let mut streams: Vec<_> = (0..8).map(|_| tail(&node, "")).collect();
    let refused = as_bearer(&node, TOKEN, "GET", "/tail", "");
    assert!(refused.status == 429 && refused.body.contains("tail this node"), "{refused:?}");
    drop(streams.pop());
    let bearer = ("authorization", "Bearer a-token-for-tests");
    eventually("a place is free", || {
        let stream = EventStream::open(node.admin(), "/tail", &[bearer]);
        let is_open = stream.status == 200;
        streams.extend(is_open.then_some(stream));
        is_open
    });
    node.signal(rustix::process::Signal::TERM);
    for mut stream in streams {
        while let Some((name, _)) = stream.next_event() {
            assert_eq!(name, "start");
        }
    }
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_tail_needs_a_credential_and_a_query_that_can_be_used() {
    let node = node(Some(CATALOG), &[]);
    let anonymous = crate::support::http::send(node.admin(), "GET", "/tail", &[], "");
    assert_eq!(anonymous.status, 403);
    for (query, named) in [
        ("outcome=denied", "allowed, refused, too_large"),
        ("rate=0", "from 1 to 1000"),
        ("rate=1001", "from 1 to 1000"),
        ("all=1", "true or false"),
        ("by=used", "not known here"),
    ] {
        let answer = as_bearer(&node, TOKEN, "GET", &format!("/tail?{query}"), "");
        assert!(answer.status == 400 && answer.body.contains(named), "{query}: {answer:?}");
    }
}

#[test]
fn responses_repeat_a_printable_request_id_and_the_admin_api_makes_one() {
    let node = node(Some(CATALOG), &[]);
    let body = json!({"checks": [{"policy": "login", "key": "a"}]}).to_string();
    for (path, body, id, expected) in [
        ("/check", "{}", "a-1", Some("a-1")),
        ("/check/batch", &*body, "{9f3c}", Some("{9f3c}")),
        ("/authz", "", "a-2", Some("a-2")),
        ("/authz", "", "a 2", None),
        ("/authz", "", &*"x".repeat(129), None),
    ] {
        let answer = node.send("POST", path, &[("x-request-id", id)], body);
        assert_eq!(answer.header("x-request-id"), expected, "{path} {answer:?}");
    }
    assert_eq!(node.check(json!({"policy": "login", "key": "b"})).header("x-request-id"), None);
    let made = as_bearer(&node, TOKEN, "GET", "/apikeys", "");
    let id = made.header("x-request-id").unwrap();
    assert!(id.len() == 36 && made.header("x-amzn-requestid") == Some(id), "{made:?}");
    let headers = [("authorization", "Bearer a-token-for-tests"), ("x-request-id", "mine")];
    let send =
        |method| crate::support::http::send(node.admin(), method, "/apikeys", &headers, "{}");
    assert_eq!(send("GET").header("x-request-id"), Some("mine"));
    assert_eq!(send("POST").status, 201);
    assert!(node.log().contains("x_request_id=\"mine\""), "{}", node.log());
}

#[test]
fn log_refusals_logs_a_sample_of_refusals_as_text_or_json() {
    let json_log = ["--log-refusals", "2", "--log-format", "json"];
    for flags in [&json_log[..2], &json_log] {
        let node = node(Some(CATALOG), flags);
        for _ in 0..10 {
            visit(&node, "request-1");
        }
        let lines = || {
            let log = node.log();
            let lines = log.lines().filter(|line| line.contains("a check was refused"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        eventually("refusals are logged", || !lines().is_empty());
        let (lines, log) = (lines(), node.log());
        assert!(lines.len() <= 4, "{log}");
        let line = &lines[0];
        if flags.len() > 2 {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!((&line["key_id"], &line["level"]), (&json!("alice"), &json!("INFO")));
            assert_eq!(line["pattern"], "GET /items/{id}");
        } else {
            for part in ["INFO", "key_id=\"alice\"", "request_id=\"request-1\"", "retry_after_ms="]
            {
                assert!(line.contains(part), "{line}");
            }
        }
        assert!(!log.contains("the-value-of") && !log.contains("of-a-client"), "{log}");
    }
    assert!(!node(Some(CATALOG), &[]).log().contains("refused"));
}

//! Keys that clients make up: however many there are, limits of others hold, and state is bounded.

mod redis;

use serde_json::{Value, json};

use crate::support::node::Node;

const CATALOG: &str = r#"
version: 1
apis:
  - id: api
    stages: [ { name: prod } ]
plans:
  - id: plan
    api_stages: [ { api: api, stage: prod, methods: { "*": { throttle: { rate: 1/d, burst: 3 } } } } ]
    throttle: { rate: 1/d, burst: 100000 }
  - { id: small, throttle: { rate: 1/d, burst: 5 }, on_store_failure: closed }
keys:
  - { id: alice, value: alice-key, plans: [plan] }
  - { id: bob, value: bob-key, plans: [small] }
  - { id: carol, value: carol-key, plans: [small] }
  - { id: dave, value: dave-key, plans: [small], policies: { team: red } }
policies:
  - { name: open, throttle: { rate: 1/d, burst: 2 }, new_keys: 1000000/s }
  - { name: closed, throttle: { rate: 1/d, burst: 2 }, on_store_failure: closed }
  - { name: local, throttle: { rate: 1/d, burst: 2 }, on_store_failure: local }
  - { name: shadow, throttle: { rate: 1/d, burst: 2 }, mode: shadow, on_store_failure: closed }
  - { name: team, quota: { limit: 3, period: day }, on_store_failure: closed }
"#;

const ROWS: usize = 200;

fn batch(node: &Node, checks: &[Value]) -> Vec<Value> {
    let body = json!({ "checks": checks }).to_string();
    let answer = node.send("POST", "/check/batch", &[], &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["results"].as_array().unwrap().clone()
}

fn made_up(policy: &str, number: usize) -> Value {
    json!({"policy": policy, "key": format!("made-up-{number}")})
}

/// Status, the place of the decision, and true if the request is admitted.
fn outcome(answer: &Value) -> (u64, &str, bool) {
    let status = answer["status"].as_u64().unwrap_or(200);
    (status, answer["decided_by"].as_str().unwrap(), answer["allowed"].as_bool().unwrap())
}

fn decide(node: &Node, check: Value) -> (u64, String, bool) {
    let answer = node.check(check).json();
    let (status, by, allowed) = outcome(&answer);
    (status, by.to_owned(), allowed)
}

/// The node is full: subjects 0 and 1 of each policy are known, and those from 10,000 on are not.
fn holds_its_limits(node: &Node, store: &str) {
    let decided = |status, by: &str, allowed| (status, by.to_owned(), allowed);
    for policy in ["open", "closed", "local"] {
        assert_eq!(decide(node, made_up(policy, 0)), decided(200, store, true), "{policy}");
        assert_eq!(decide(node, made_up(policy, 0)).0, 429, "{policy}: no key in use is lifted");
        let look = json!({"policy": policy, "key": "nobody", "cost": 0});
        assert_eq!(decide(node, look), decided(200, store, true), "{policy}: a look");
    }
    let new = |policy| decide(node, made_up(policy, 10_000));
    assert_eq!(new("open"), decided(200, "full_store", true));
    assert_eq!(new("closed"), decided(503, "full_store", false));
    assert_eq!(new("shadow"), decided(200, "full_store", true));
    let local = [(); 3].map(|()| new("local"));
    assert_eq!(local[0], decided(200, "full_store", true), "the node's own share");
    assert_eq!(local[2], decided(429, "full_store", false));
    // Keys and policies that an operator has declared are counted.
    for _ in 0..3 {
        assert_eq!(decide(node, json!({"api_key": "dave-key"})), decided(200, store, true));
    }
    assert_eq!(decide(node, json!({"api_key": "dave-key"})).0, 429, "its team's quota");
    // A new key beside it does not lift a limit, with or without a reservation.
    let beside = |key: &str, number: usize, policy: &str| {
        let policies = json!([{"policy": policy, "key": format!("beside-{number}")}]);
        json!({"api_key": key, "policies": policies})
    };
    for number in 0..5 {
        let check = beside("bob-key", number, "open");
        // The plan is `closed`, and so is the decision about the new key.
        assert_eq!(decide(node, check), decided(503, "full_store", false));
    }
    let checks: Vec<Value> = (0..10)
        .map(|number| {
            let key = json!({"policy": "open", "key": format!("beside-{number}")});
            let known = json!({"policy": "open", "key": "made-up-1"});
            json!({"policies": [known, key]})
        })
        .collect();
    let answers = batch(node, &checks);
    let allowed = answers.iter().filter(|answer| answer["allowed"] == true).count();
    assert_eq!(allowed, 1, "one unit of made-up-1 was left: {answers:?}");
    assert!(answers.iter().all(|answer| answer["decided_by"] == "full_store"));
    let mut reserve = beside("carol-key", 0, "open");
    reserve["reservation"] = json!({});
    assert_eq!(decide(node, reserve), decided(503, "full_store", false));
    // A report is charged to what is known.
    let mut report = beside("carol-key", 0, "closed");
    report["after_the_fact"] = json!(true);
    report["cost"] = json!(7);
    let answer = node.check(report).json();
    assert_eq!(
        (answer["limits"][0]["debt"].as_u64(), &answer["violated"]),
        (Some(2), &json!("small/throttle"))
    );
    assert_eq!(decide(node, json!({"api_key": "carol-key"})).0, 429);
    let report = json!({"policy": "open", "key": "nobody", "after_the_fact": true});
    assert_eq!(decide(node, report), decided(503, "full_store", false), "it was not charged");
    for (outcome, at_least) in [("full_open", 1.0), ("full_closed", 3.0)] {
        let counted = node.metric("tollgate_decisions_total", &format!("outcome=\"{outcome}\""));
        assert!(counted >= at_least, "{outcome}: {counted}");
    }
    assert!(node.metric("tollgate_store_errors_total", "kind=\"full\"") >= 20.0);
}

fn fill(node: &Node, count: usize) {
    for policy in ["open", "closed", "local"] {
        let answers = batch(node, &[made_up(policy, 0), made_up(policy, 1)]);
        assert!(answers.iter().all(|answer| answer["allowed"] == true));
    }
    let checks: Vec<Value> = (2..count).map(|number| made_up("open", number)).collect();
    checks.chunks(1_000).for_each(|checks| drop(batch(node, checks)));
}

#[test]
fn a_full_memory_store_refuses_new_keys_and_lifts_no_limit() {
    let node = Node::with_catalog(CATALOG, &["--max-memory-rows", &ROWS.to_string()]);
    fill(&node, ROWS - 4);
    holds_its_limits(&node, "memory");
    assert_eq!(node.metric("tollgate_max_memory_rows", ""), 200.0);
}

#[test]
fn new_keys_begin_at_a_bounded_rate_and_nothing_is_charged_beyond() {
    let catalog = CATALOG.replace(
        "policies:\n",
        "policies:\n  - { name: slow, throttle: { rate: 1/d, burst: 2 }, new_keys: 5/s }\n",
    );
    let node = Node::with_catalog(&catalog, &[]);
    let checks: Vec<Value> = (0..200).map(|number| made_up("slow", number)).collect();
    let answers = batch(&node, &checks);
    let begun = answers.iter().filter(|answer| answer["decided_by"] == "memory").count();
    assert!((5..100).contains(&begun), "{begun}");
    for answer in answers.iter().filter(|answer| answer["decided_by"] != "memory") {
        assert_eq!(outcome(answer), (429, "new_keys", false));
        assert_eq!(
            (&answer["violated"], &answer["title"]),
            (&json!("policy:slow/new_keys"), &json!("Too many new keys"))
        );
        assert!((1..=1000).contains(&answer["retry_after_ms"].as_u64().unwrap()));
    }
    assert_eq!(decide(&node, made_up("slow", 0)), (200, "memory".into(), true), "a known key");
    assert_eq!(decide(&node, made_up("slow", 0)).0, 429);
    // Nothing else of such a check is charged, and another policy's keys are not affected.
    let beside =
        |number: usize| json!({"api_key": "bob-key", "policies": [made_up("slow", number)]});
    let checks: Vec<Value> = (1_000..1_100).map(beside).collect();
    let refused = batch(&node, &checks).into_iter().filter(|it| it["decided_by"] == "new_keys");
    let refused = refused.count();
    let look = node.check(json!({"api_key": "bob-key", "cost": 0})).json();
    let charged = 5 - look["limits"][0]["remaining"].as_u64().unwrap();
    assert!(refused > 90 && charged <= 100 - refused as u64, "{refused} {charged}");
    assert!(node.passes("open", "another", 1));
    let answer = (0..100).map(|number| node.check(made_up("slow", 2_000 + number)));
    let answer = answer.into_iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.header("ratelimit").unwrap().contains("policy:slow/new_keys"));
    let labels = "limit=\"policy:slow/new_keys\",outcome=\"refused\"";
    assert!(node.metric("tollgate_decisions_total", labels) > 100.0);
}

//! Dry runs of checks whose subjects lie on different primaries: judged everywhere, charged nowhere.
//! Needs programs besides Rust, so `make fast` skips it.

use super::*;

const SHARED: &str = r#"
version: 1
apis: [ { id: a, stages: [ { name: small, throttle: { rate: 1/h, burst: 3 }, consistency: leased } ] } ]
plans:
  - { id: two, throttle: { rate: 1/h, burst: 2 }, on_store_failure: closed }
keys:
  - { id: a, value: key-a, plans: [two] }
  - { id: b, value: key-b, plans: [two] }
"#;

#[test]
fn a_dry_run_across_slots_answers_as_the_check_and_charges_nothing() {
    let cluster = RedisCluster::start(0, 0);
    let node = node_with(SHARED, &cluster, &["--denial-memo", "false"]);
    let check = |key: &str, dry_run: bool, reserves: bool| {
        let request = json!({"api_key": key, "api": "a", "stage": "small", "method": "GET", "path": "/x",
            "dry_run": dry_run, "reservation": if reserves { json!({}) } else { Value::Null }});
        let answer = node.check(request);
        let body = answer.json();
        let limits = body["limits"].as_array().unwrap().iter();
        let left: Vec<_> = limits.map(|limit| limit["remaining"].clone()).collect();
        (answer.status, body["violated"].clone(), left)
    };
    for (key, reserves) in [("key-a", false), ("key-a", true), ("key-a", false), ("key-b", false)] {
        let dry: Vec<_> = (0..5).map(|_| check(key, true, reserves)).collect();
        let made = check(key, false, reserves);
        assert!(dry.iter().all(|dry| *dry == made), "{key}: {dry:?}, then {made:?}");
    }
    assert_eq!(check("key-b", true, false).0, 429, "the stage is spent");
    assert_eq!(check("key-b", true, true).0, 429);
}

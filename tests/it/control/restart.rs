//! A node without Redis keeps its counters over a restart.

use serde_json::{Value, json};

use super::node;
use super::usage::{days, today};
use crate::support::eventually;
use crate::support::node::Node;

#[test]
fn with_a_data_directory_counts_and_usage_survive_a_stop_and_a_crash() {
    const LIMITS: &str = r"
version: 1
plans: [ { id: p, throttle: { rate: 1/d, burst: 9 }, quota: { limit: 7, period: day } } ]
keys: [ { id: k, value: key-k, plans: [p] } ]
";
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--drain-delay", "0s", "--data-dir", dir.path().to_str().unwrap()];
    let check =
        |node: &Node, cost: u64| node.check(json!({"api_key": "key-k", "cost": cost})).json();
    let left = |answer: &Value| [0, 1].map(|place| answer["limits"][place]["remaining"].clone());
    let first = node(Some(LIMITS), &flags);
    assert_eq!(left(&check(&first, 2)), [7, 5]);
    assert_eq!(first.stop(), Some(0));
    let second = node(Some(LIMITS), &flags);
    assert_eq!(left(&check(&second, 0)), [7, 5], "a stop loses nothing");
    let file = dir.path().join("counts.redb");
    let written = || std::fs::metadata(&file).unwrap().modified().unwrap();
    let before = written();
    assert_eq!(left(&check(&second, 3)), [4, 2]);
    eventually("the counters are saved", || written() > before);
    // That write may have started before the check; the next one has all counters.
    let before = written();
    check(&second, 1);
    eventually("the counters are saved again", || written() > before);
    second.signal(rustix::process::Signal::KILL);
    drop(second);
    let third = node(Some(LIMITS), &flags);
    let [throttle, quota] = left(&check(&third, 0));
    assert!(throttle.as_u64().unwrap() <= 4 && quota.as_u64().unwrap() <= 2, "{quota}");
    assert!(days(&third, "p", "k", "requests", today(0))[0][0] >= 5);
}

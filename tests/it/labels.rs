//! Metric labels of checks. Scraping of the metrics is tested in `operate`.

use serde_json::json;

use crate::support::node::Node;

const CATALOG: &str = r#"
version: 1
plans: [ { id: free, throttle: { rate: 1/h, burst: 5 } } ]
keys: [ { id: alice, value: alice-key, plans: [free] } ]
policies:
  - { name: login, throttle: { rate: 5/min, burst: 5 } }
  - { name: region, throttle: { rate: 5/min, burst: 5 } }
"#;

#[test]
fn the_label_of_a_check_is_its_plan_or_else_its_first_policy() {
    let node = Node::with_catalog(CATALOG, &[]);
    let named = |policy: &str| json!({"policy": policy, "key": "k"});
    let policies = [named("region"), named("login")];
    assert_eq!(node.check(json!({"policies": policies})).status, 200);
    let request = json!({"api_key": "alice-key", "policies": policies});
    assert_eq!((node.check(request.clone()).status, node.check(request).status), (200, 200));
    let allowed = |plan: &str| {
        node.metric("tollgate_decisions_total", &format!(r#"outcome="allowed",plan="{plan}""#))
    };
    let seen = ["policy:region", "policy:login", "free"].map(allowed);
    assert_eq!(seen, [1.0, 0.0, 2.0], "{}", node.get("/metrics").body);
}

#[test]
fn a_debt_is_recorded_by_plan_and_limit_each_time_a_report_leaves_it() {
    let node = Node::with_catalog(CATALOG, &[]);
    let report = |who: &serde_json::Value, cost: u64| {
        let mut body = who.clone();
        body["cost"] = json!(cost);
        body["after_the_fact"] = json!(true);
        assert_eq!(node.check(body).status, 200);
    };
    let debts = |labels: &str| {
        let of = |part| node.metric(&format!("tollgate_debt_units_{part}"), labels);
        (of("count"), of("sum"))
    };
    let alice = json!({"api_key": "alice-key"});
    report(&alice, 5);
    assert_eq!(debts(""), (0.0, 0.0), "a full bucket is not in debt");
    report(&alice, 2);
    report(&alice, 0);
    assert_eq!(node.check(alice.clone()).status, 429);
    assert_eq!(debts(r#"limit="free/throttle",plan="free""#), (1.0, 2.0));
    report(&alice, 5);
    assert_eq!(debts(""), (2.0, 9.0), "2 and 7");
    report(&json!({"policy": "login", "key": "k"}), 6);
    assert_eq!(debts(r#"limit="policy:login/throttle",plan="policy:login""#), (1.0, 1.0));
}

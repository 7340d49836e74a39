//! What metrics call a check. That they can be scraped at all is `operate`'s.

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
fn metrics_call_a_check_by_its_plan_or_else_by_its_first_policy() {
    let node = Node::with_catalog(CATALOG, &[]);
    let named = |policy: &str| json!({"policy": policy, "key": "k"});
    let policies = [named("region"), named("login")];
    assert_eq!(node.check(json!({"policies": policies})).status, 200);
    let asked = json!({"api_key": "alice-key", "policies": policies});
    assert_eq!((node.check(asked.clone()).status, node.check(asked).status), (200, 200));
    let told = |plan: &str| {
        node.metric("tollgate_decisions_total", &format!(r#"outcome="allowed",plan="{plan}""#))
    };
    let seen = ["policy:region", "policy:login", "free"].map(told);
    assert_eq!(seen, [1.0, 0.0, 2.0], "{}", node.get("/metrics").body);
}

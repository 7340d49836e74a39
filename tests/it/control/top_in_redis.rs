//! `GET /top` of several nodes on one Redis.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::{Value, json};

use super::node;
use super::top::{CATALOG, top};
use crate::support::eventually;
use crate::support::redis::RedisServer;

#[test]
fn the_rows_of_all_nodes_are_added_up_also_those_of_refusals_from_memory_and_of_leases() {
    let redis = RedisServer::start();
    let url = redis.url();
    let leased = CATALOG.replace(
        "plans: [{ id: basic, throttle: { rate: 1/h, burst: 5 },",
        "plans: [{ id: basic, consistency: leased, throttle: { rate: 1000000/s, burst: 1000000 },",
    );
    let nodes = [(); 2].map(|()| node(Some(&leased), &["--store", &url]));
    for node in &nodes {
        for _ in 0..20 {
            node.check(json!({"policy": "login", "key": "a"}));
            assert_eq!(node.check(json!({"api_key": "the-value-of-alice"})).status, 200);
        }
    }
    let counts = |query: &str| -> [Value; 2] {
        let top = top(&nodes[0], query);
        ["refused", "used"].map(|measure| top["item"][0]["minute"][measure].clone())
    };
    eventually("the other node's refusals are added", || {
        counts("limit=policy%3Alogin%2Fthrottle") == [json!(38), json!(2)]
    });
    eventually("the other node's leased checks are added", || {
        counts("by=used&limit=basic%2Fthrottle") == [json!(0), json!(40)]
    });
    assert_eq!(top(&nodes[0], "")["nodes"], 2);
    drop(redis);
    eventually("without Redis the rows are this node's", || {
        let top = top(&nodes[0], "");
        top["nodes"].is_null() && top["item"][0]["minute"]["refused"].as_u64() < Some(38)
    });
}

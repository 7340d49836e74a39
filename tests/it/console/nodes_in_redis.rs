//! `GET /nodes` of several nodes on one Redis.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::{Value, json};

use super::nodes::{CATALOG, outcomes};
use crate::control::{call, node};
use crate::support::eventually;
use crate::support::redis::RedisServer;

#[test]
fn each_node_shows_the_reports_of_all_and_without_redis_its_own() {
    let redis = RedisServer::start();
    let url = redis.url();
    let nodes = [(); 2].map(|()| node(Some(CATALOG), &["--store", &url]));
    for _ in 0..6 {
        nodes[1].check(json!({"api_key": "the-value-of-alice"}));
    }
    let read = || call(&nodes[0], "GET", "/nodes", json!(null));
    let mut reports = Vec::new();
    eventually("the other node's checks are there", || {
        reports = read()["item"].as_array().unwrap().clone();
        reports.len() == 2 && outcomes(&reports[1], "basic") == json!({"allowed": 5, "refused": 1})
    });
    assert_eq!(outcomes(&reports[0], "basic"), Value::Null, "the node that was asked is first");
    assert_eq!(reports[0]["store"]["kind"], "redis");
    let calls: Vec<u64> =
        serde_json::from_value(reports[1]["minute"]["storeDurations"].clone()).unwrap();
    assert!(calls.iter().sum::<u64>() > 0, "{reports:?}");
    drop(redis);
    eventually("the view is of one node", || {
        let view = read();
        view["complete"] == false && view["item"].as_array().unwrap().len() == 1
    });
}

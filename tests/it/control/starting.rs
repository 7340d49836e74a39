//! Nodes that start before they can know what is declared.

use serde_json::json;

use super::{node, plan_and_key};
use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

#[test]
fn a_node_that_starts_while_redis_is_away_does_not_take_the_example_for_what_is_declared() {
    let redis = RedisServer::start();
    let url = redis.url();
    let (_, value, _) = plan_and_key(&node(None, &["--store", &url]), 1000);
    redis.signal(rustix::process::Signal::STOP);
    let late = Node::start(&["--store", &url]);
    let status = |key: &str| late.check(json!({"api_key": key})).status;
    assert_eq!((status("demo-key"), status(&value)), (503, 503));
    redis.signal(rustix::process::Signal::CONT);
    eventually("it knows what is declared", || {
        let status = status("demo-key");
        assert_ne!(status, 200);
        status == 403
    });
    assert_eq!(status(&value), 200);
}

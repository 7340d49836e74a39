//! R10: a node whose Redis was never there.

use crate::outage::{assert_decided_without_redis, node};
use crate::support::free_port;

#[test]
fn a_redis_that_is_not_there_at_the_start() {
    let port = free_port();
    let node = node(&format!("redis://127.0.0.1:{port}"));
    assert_decided_without_redis(&node);
}

//! A reset of a policy's key in Redis is in effect for every node.
//! Needs programs besides Rust, so `make fast` skips it.

use super::policies::{frees_slots, unblocks_an_address, with_policies};
use super::shown;
use crate::support::redis::RedisServer;

#[test]
fn a_reset_in_redis_is_that_of_every_node() {
    let redis = RedisServer::start();
    let [one, other] = [(); 2].map(|()| with_policies(&["--store", &redis.url()]));
    unblocks_an_address(&one);
    frees_slots(&one);
    let left =
        |node| shown(node, "policies usage login 203.0.113.7")["limits"][0]["remaining"].clone();
    assert_eq!((left(&one), left(&other)), (0.into(), 0.into()));
    shown(&other, "policies reset login 203.0.113.7");
    assert_eq!((left(&one), left(&other)), (2.into(), 2.into()));
    assert!(other.passes("login", "203.0.113.7", 2));
}

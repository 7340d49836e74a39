//! A rolling restart of nodes on one Redis, under load.
//! Needs programs besides Rust, so `make fast` skips it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::http::{self, KeepAlive};
use crate::support::node::Node;
use crate::support::redis::RedisServer;

#[test]
fn a_rolling_restart_under_load_loses_no_check() {
    let redis = RedisServer::start();
    let flags = ["--store", &redis.url(), "--check-deadline", "5s", "--drain-delay", "500ms"];
    let nodes = std::sync::Mutex::new(vec![Node::start(&flags), Node::start(&flags)]);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Like a load balancer: only ready nodes, and a new connection after one was closed.
    let ready = || {
        let addresses: Vec<String> =
            nodes.lock().unwrap().iter().map(|node| node.address().to_owned()).collect();
        addresses.into_iter().find(|address| {
            http::try_send(address, "GET", "/readyz", &[], "")
                .is_some_and(|answer| answer.status == 200)
        })
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let address = ready().unwrap();
                    let mut connection = KeepAlive::open(&address).unwrap();
                    for _ in 0..50 {
                        let answer =
                            connection.post("/check", r#"{"policy":"login","key":"x","cost":0}"#);
                        let answer = answer.expect("a check was lost");
                        assert_eq!(answer.status, 200);
                        answered.fetch_add(1, Ordering::Relaxed);
                        if answer.header("connection") == Some("close") {
                            break;
                        }
                    }
                }
            });
        }
        for _ in 0..3 {
            let old = {
                let mut nodes = nodes.lock().unwrap();
                nodes.push(Node::start(&flags));
                nodes.remove(0)
            };
            assert_eq!(old.stop(), Some(0));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(answered.load(Ordering::Relaxed) > 200, "only {answered:?} checks under way");
}

//! The record of reservations, and its replay.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::json;

use super::{CATALOG, cancel, handle, open, post, reserve, settle};
use crate::support::node::Node;
use crate::support::redis::RedisServer;

#[test]
fn reservations_are_recorded_and_the_reference_decides_the_same() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record").display().to_string();
    for store in ["memory", &redis.url()] {
        let flags = ["--store", store, "--check-deadline", "5s", "--record", &file];
        let node = Node::with_catalog(CATALOG, &flags);
        let opened: Vec<String> = (0..3).map(|_| open(&node, "carol-key", 300)).collect();
        assert_eq!(reserve(&node, "carol-key", 300, "refused").status, 429);
        let actual = json!({"total_tokens": 350});
        post(
            &node,
            "/reservations/extend",
            json!({"handle": opened[0], "actual": actual, "ttl_ms": 9000}),
        );
        settle(&node, &opened[1], 700);
        cancel(&node, &opened[2]);
        post(&node, "/reservations/settle", json!({"handle": opened[0]}));
        assert_eq!(settle(&node, &opened[1], 0).status, 404);
        let first = reserve(&node, "bob-key", 10, "id");
        reserve(&node, "bob-key", 10, "id");
        assert_eq!(reserve(&node, "bob-key", 11, "id").status, 409);
        assert_eq!(node.stop(), Some(0));
        let recorded = std::fs::read_to_string(&file).unwrap();
        assert_eq!(
            tollgate::engine::replay(&recorded).unwrap(),
            5 + 4,
            "what charged nothing is left out"
        );
        let secret = &handle(&first)[25..36];
        assert!(!recorded.contains(secret), "nobody can settle with what is recorded");
        let altered = recorded.replacen(r#""cost":700,"#, r#""cost":699,"#, 1);
        assert!(tollgate::engine::replay(&altered).is_err());
        std::fs::remove_file(&file).unwrap();
    }
}

//! Deletion of a usage plan with keys.
//! Needs programs besides Rust, so `make fast` skips it.

use redis::Commands as _;
use serde_json::{Value, json};

use super::{TOKEN, as_bearer, call, node, plan_and_key};
use crate::support::redis::RedisServer;

#[test]
fn an_interrupted_deletion_of_a_plan_is_completed_by_a_retry() {
    let redis = RedisServer::start();
    let node = node(None, &["--store", &redis.url()]);
    let (id, _, plan) = plan_and_key(&node, 100);
    let path = format!("/usageplans/{plan}");
    let delete = || as_bearer(&node, TOKEN, "DELETE", &path, "").status;
    // The plan's id is short, so it may be a part of a key's.
    let link = format!("plan-key/{plan}/");
    let links = || -> Vec<(String, String)> {
        let all: std::collections::BTreeMap<String, String> =
            redis.connection().hgetall("tg:{registry}").unwrap();
        all.into_iter().filter(|(path, _)| path.starts_with(&link)).collect()
    };
    let before = links();
    assert!(!before.is_empty(), "a key is on the plan");
    let record: String = redis.connection().hget("tg:{registry}", format!("key/{id}")).unwrap();
    assert_eq!((delete(), links()), (202, Vec::new()));
    // The state after Redis became unreachable in between.
    let _: () = redis.connection().hset_multiple("tg:{registry}", &before).unwrap();
    for (path, _) in &before {
        let _: () = redis.connection().zadd("tg:{registry}:paths", path, 0).unwrap();
    }
    let _: () = redis.connection().hset("tg:{registry}", format!("key/{id}"), record).unwrap();
    let later = call(&node, "POST", "/usageplans", json!({"name": "p"}));
    assert_ne!(later["id"], json!(plan), "a plan of that name does not find the keys");
    assert_eq!((delete(), links()), (202, Vec::new()));
    assert_eq!(delete(), 404);
    let key = call(&node, "GET", &format!("/apikeys/{id}"), Value::Null);
    assert_eq!(key["id"], json!(id), "{key}");
}

//! The audit log in Redis: what it holds, its pages and its bound.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::json;

use super::audit::{audit, every_change_is_logged};
use super::{call, node};
use crate::support::redis::RedisServer;

#[test]
fn every_change_is_logged_with_author_time_and_request_in_redis() {
    every_change_is_logged(&node(None, &["--store", &RedisServer::start().url()]));
}

#[test]
fn the_log_has_pages_and_can_be_filtered_by_path() {
    let redis = RedisServer::start();
    for store in ["memory", &redis.url()] {
        let node = node(None, &["--store", store]);
        for place in 0..7 {
            call(&node, "POST", "/usageplans", json!({"name": format!("p{place}")}));
        }
        let key = call(&node, "POST", "/apikeys", json!({"name": "k"}));
        let whole = audit(&node, "limit=100");
        let mut paged = Vec::new();
        let mut position = String::new();
        loop {
            let page = audit(&node, &format!("limit=3&position={position}"));
            paged.extend(page["item"].as_array().unwrap().clone());
            match page["position"].as_str() {
                Some(next) => next.clone_into(&mut position),
                None => break,
            }
        }
        assert_eq!(whole["item"], json!(paged));
        assert_eq!(whole["item"].as_array().unwrap().len(), 8);
        let of_key = audit(&node, &format!("path=/apikeys/{}", key["id"].as_str().unwrap()));
        assert_eq!(of_key["item"].as_array().unwrap().len(), 1, "its making, by what it changed");
        assert_eq!(audit(&node, "path=/usageplans&limit=5")["item"].as_array().unwrap().len(), 5);
        assert_eq!(audit(&node, "path=/nowhere")["item"], json!([]));
        assert_eq!(audit(&node, "position=nonsense")["item"], json!([]));
    }
}

#[test]
fn the_log_is_bounded() {
    let redis = RedisServer::start();
    let node = node(None, &["--store", &redis.url()]);
    let fill = "for i = 1, 100005 do redis.call('XADD', KEYS[1], i .. '-1', 'note', '{}') end";
    redis.command(&["EVAL", fill, "1", "tg:{registry}:notes"]);
    call(&node, "POST", "/usageplans", json!({"name": "p"}));
    let length = redis.command(&["XLEN", "tg:{registry}:notes"]);
    assert_eq!(length, redis::Value::Int(100_000));
    assert_eq!(audit(&node, "limit=1")["item"][0]["path"], "/usageplans");
}

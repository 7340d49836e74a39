//! `export --keys` and `apply` move everything to a service on another Redis.
//! Needs programs besides Rust, so `make fast` skips it.

use std::process::Command;

use serde_json::{Value, json};

use super::apply::{FILE, Written};
use super::{TOKEN, run, shown, table};
use crate::support::http;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

fn node_on(redis: &RedisServer) -> Node {
    let access = [
        ("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"),
        ("TOLLGATE_ADMIN_TOKEN", TOKEN),
        ("TOLLGATE_ADMIN_READ_TOKEN", "a-token-that-reads"),
    ];
    Node::launch(None, &["--store", &redis.url()], &access)
}

#[test]
fn keys_go_on_working_on_another_redis_without_their_values() {
    let redis = [RedisServer::start(), RedisServer::start()];
    let [old, new] = redis.each_ref().map(node_on);
    let (code, _, stderr) = run(&old, &Written::new(FILE).with("apply", "--yes"));
    assert_eq!(code, Some(0), "{stderr}");
    let made = shown(&old, "keys create other --plan basic --expires-at 2030-01-31T00:00:00Z");
    table(&old, "keys update other --burst 2 --quota 9");
    let disabled = shown(&old, "keys create off --plan basic --disabled");
    let exported = table(&old, "export --keys");
    for value in ["a-value-of-twenty-letters", made["value"].as_str().unwrap()] {
        assert!(!exported.contains(value), "{exported}");
    }
    let file = Written::new(&exported);
    let (code, _, stderr) = run(&new, &file.with("apply", "--yes"));
    assert_eq!(code, Some(0), "{stderr}");
    let (code, out, stderr) = run(&new, &file.with("diff", ""));
    assert_eq!((code, &*out), (Some(0), ""), "{stderr}");
    let check = |node: &Node, value: &Value| {
        let answer = node.check(json!({
            "api_key": value, "api": "pets", "stage": "prod", "method": "GET", "path": "/pets",
            "cost": 0,
        }));
        let limits = answer.json()["limits"].as_array().cloned().unwrap_or_default();
        let sizes = limits.iter().map(|limit| (limit["name"].clone(), limit["limit"].clone()));
        (answer.status, answer.json()["key"]["id"].clone(), sizes.collect::<Vec<_>>())
    };
    for value in [&json!("a-value-of-twenty-letters"), &made["value"]] {
        let here = check(&new, value);
        assert_eq!(here.0, 200, "{here:?}");
        assert_eq!(here, check(&old, value), "the same key with the same limits");
    }
    assert_eq!(check(&new, &disabled["value"]).0, 403);
    assert_eq!(table(&new, "export --keys"), exported, "and on from there");
}

#[test]
fn a_digest_is_not_shown_to_a_read_token_nor_by_default() {
    let redis = RedisServer::start();
    let node = node_on(&redis);
    shown(&node, "keys create acme");
    let get = |path: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        http::send(node.admin(), "GET", path, &[("authorization", &bearer)], "")
    };
    assert_eq!(get("/apikeys?includeDigests=true", "a-token-that-reads").status, 403);
    assert!(get("/apikeys?includeDigests=true", TOKEN).body.contains("valueSha256"));
    assert!(!get("/apikeys", TOKEN).body.contains("ha256"));
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["export", "--keys", "--url", &format!("http://{}", node.admin())])
        .env("TOLLGATE_ADMIN_TOKEN", "a-token-that-reads")
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{output:?}");
}

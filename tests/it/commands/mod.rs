//! `tollgate keys`, `plans` and others against a running node: tables for people, JSON for
//! programs.

mod apply;
mod audit;
mod catalog;
mod keys;
mod move_to_another_redis;
mod plans;
mod policies;
mod policies_in_redis;
mod shells;
mod tail;
mod terminal;
mod top;
mod usage;
mod usage_in_redis;

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::http;
use crate::support::node::Node;

const TOKEN: &str = "a-token-for-tests";

fn node() -> Node {
    let access = [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", TOKEN)];
    Node::launch(None, &[], &access)
}

fn run(node: &Node, words: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(words.split(' '))
        .args(["--url", &format!("http://{}", node.admin())])
        .env("TOLLGATE_ADMIN_TOKEN", TOKEN)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[track_caller]
fn table(node: &Node, words: &str) -> String {
    let (code, out, stderr) = run(node, words);
    assert_eq!((code, &*stderr), (Some(0), ""), "{words}");
    out
}

#[track_caller]
fn shown(node: &Node, words: &str) -> Value {
    serde_json::from_str(&table(node, &format!("{words} --json"))).unwrap()
}

fn plan(node: &Node, id: &str) {
    let body = json!({
        "name": "Basic", "tags": {"_custom_id_": id}, "throttle": {"rateLimit": 0.5, "burstLimit": 3},
        "quota": {"limit": 1000, "period": "DAY", "timeZone": "Europe/Berlin"},
    });
    let bearer = ("authorization", "Bearer a-token-for-tests");
    let answer = http::send(node.admin(), "POST", "/usageplans", &[bearer], &body.to_string());
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[test]
fn a_key_is_created_on_a_plan_disabled_enabled_and_deleted() {
    let node = node();
    plan(&node, "basic");
    let key = shown(&node, "keys create acme --plan basic --customer-id c-1");
    let (id, value) = (key["id"].as_str().unwrap(), &key["value"]);
    let status = || node.check(json!({"api_key": value})).status;
    assert_eq!(status(), 200);
    let listed = table(&node, "keys list");
    let row: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..5], [id, "acme", "true", "c-1", "-"], "{listed}");
    assert!(!listed.contains(value.as_str().unwrap()));
    assert!(table(&node, "keys list --plan basic").contains(id));
    assert!(table(&node, &format!("keys disable {id}")).contains("false"));
    assert_eq!(status(), 403);
    assert_eq!(shown(&node, &format!("keys enable {id}"))["enabled"], true);
    assert_eq!(status(), 200);
    assert_eq!(shown(&node, &format!("keys show {id}"))["customerId"], "c-1");
    assert_eq!(table(&node, &format!("keys delete {id}")), "");
    assert_eq!(status(), 403);
    assert_eq!(shown(&node, "keys list"), json!([]));
}

#[test]
fn a_keys_value_is_shown_only_once() {
    let node = node();
    let made = table(&node, "keys create acme --disabled --expires-at 2030-01-31T00:00:00Z");
    let value = made.split("value, shown only once:").nth(1).unwrap().trim();
    assert!(value.len() >= 20 && made.contains("2030-01-31T00:00:00Z"), "{made}");
    assert!(!table(&node, "keys list").contains(value));
}

#[test]
fn a_key_that_cannot_be_added_to_its_plan_is_not_created() {
    let node = node();
    let (code, out, stderr) = run(&node, "keys create acme --plan nowhere");
    assert_eq!((code, &*out), (Some(2), ""));
    assert!(stderr.contains("404"), "{stderr}");
    assert_eq!(shown(&node, "keys list"), json!([]));
}

#[test]
fn keys_of_many_pages_are_listed() {
    let node = node();
    let line = |number| format!("key-{number:04},{number:020}\n");
    let file = format!("Name,Key\n{}", (0..1_001).map(line).collect::<String>());
    let bearer = ("authorization", "Bearer a-token-for-tests");
    let path = "/apikeys?mode=import&format=csv";
    assert_eq!(http::send(node.admin(), "POST", path, &[bearer], &file).status, 201);
    assert_eq!(table(&node, "keys list").lines().count(), 1_002);
    assert_eq!(shown(&node, "keys list").as_array().unwrap().len(), 1_001);
}

#[test]
fn plans_are_listed_and_shown() {
    let node = node();
    plan(&node, "basic");
    let listed = table(&node, "plans list");
    let row = listed.lines().nth(1).unwrap().split("  ").map(str::trim);
    let row: Vec<&str> = row.filter(|cell| !cell.is_empty()).collect();
    assert_eq!(
        row,
        ["basic", "Basic", "30/min, burst 3", "1000/day, Europe/Berlin", "0", "all", "-"]
    );
    assert_eq!(shown(&node, "plans show basic")["throttle"]["burstLimit"], 3);
    assert_eq!(shown(&node, "plans list").as_array().unwrap().len(), 1);
}

#[test]
fn an_error_of_the_service_is_printed_in_its_words() {
    let node = node();
    for (words, word) in [
        ("keys show nowhere", "404 Not Found"),
        ("keys show ../usageplans", "404 Not Found"),
        ("keys list --token wrong", "401 Unauthorized"),
        ("keys create x --expires-at never", "400 Bad Request"),
    ] {
        let (code, out, stderr) = run(&node, words);
        assert_eq!((code, &*out), (Some(2), ""), "{words}");
        assert!(stderr.starts_with("tollgate: ") && stderr.contains(word), "{stderr}");
    }
}

#[test]
fn keygen_prints_another_encryption_key_each_time_which_the_service_takes() {
    let key = || {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate")).arg("keygen").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (one, other) = (key(), key());
    assert!(one != other && one.len() == 45 && one.ends_with("=\n"), "{one}{other}");
    let configured = ("TOLLGATE_KEY_ENCRYPTION_KEY", one.trim_end());
    let access = [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", TOKEN)];
    let node = Node::launch(None, &[], &[&access[..], &[configured]].concat());
    let made = shown(&node, "keys create acme");
    let path = format!("/apikeys/{}?includeValue=true", made["id"].as_str().unwrap());
    let bearer = ("authorization", "Bearer a-token-for-tests");
    let answer = http::send(node.admin(), "GET", &path, &[bearer], "");
    assert_eq!(answer.json()["value"], made["value"]);
}

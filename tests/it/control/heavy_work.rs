//! Heavy requests of the admin API: checks on new connections, and other admin requests, are served
//! beside each of them.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::{TOKEN, as_bearer, node};
use crate::support::node::Node;

const KEYS: usize = 3_000;

/// The least number of requests that are answered beside a heavy one. A thread that accepts
/// connections and computes answers one or two.
const MIN_ANSWERED: usize = 10;

/// Sends a heavy admin request, and repeats another request until there is a response to the heavy
/// one. Returns how often the other was answered.
fn answered_beside(node: &Node, heavy: (&str, &str, &str), other: impl Fn()) -> usize {
    let ended = AtomicBool::new(false);
    let (method, path, body) = heavy;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let answer = as_bearer(node, TOKEN, method, path, body);
            ended.store(true, Ordering::SeqCst);
            assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        });
        let mut answered = 0;
        while !ended.load(Ordering::SeqCst) {
            other();
            answered += usize::from(!ended.load(Ordering::SeqCst));
        }
        answered
    })
}

#[test]
fn new_connections_and_admin_requests_are_served_beside_an_import_and_a_scan() {
    let wide =
        "version: 1\npolicies: [{ name: wide, throttle: { rate: 100000/s, burst: 100000 } }]";
    let node = node(Some(wide), &[]);
    let value = |number| format!("the-value-of-key-number-{number}");
    let line = |number| format!("k{number},{}\n", value(number));
    let csv = "name,key\n".to_owned() + &(0..KEYS).map(line).collect::<String>();
    let check = || assert!(node.passes("wide", "client", 1));
    let admin = || assert_eq!(as_bearer(&node, TOKEN, "GET", "/usageplans", "").status, 200);
    let import = ("POST", "/apikeys?mode=import&format=csv", &*csv);
    let created = answered_beside(&node, import, check);
    assert!(created >= MIN_ANSWERED, "{created} checks beside the import of new keys");
    let changed = answered_beside(&node, import, admin);
    assert!(changed >= MIN_ANSWERED, "{changed} admin requests beside the import of known keys");
    let known = node.check(json!({"api_key": value(KEYS - 1)}));
    assert_eq!(known.status, 403, "a key without a plan: {known:?}");
    // Each page of the log is read and compared, and none matches.
    let scan = ("GET", "/audit?path=/nothing", "");
    let scanned = answered_beside(&node, scan, check);
    assert!(scanned >= 1, "no check beside a scan of the audit log");
}

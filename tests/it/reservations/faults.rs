//! The faults of the field, each as a test of its name.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;

use serde_json::json;
use tollgate::time::Micros;

use super::{CATALOG, cancel, handle, left, on_both, open, post, remaining, reserve, settle};
use tollgate::limit::Subject;

use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

#[test]
fn settled_twice() {
    on_both(|node| {
        let handle = open(node, "bob-key", 400);
        assert_eq!(settle(node, &handle, 100).status, 200);
        for again in [settle(node, &handle, 100), settle(node, &handle, 900), cancel(node, &handle)]
        {
            assert_eq!(
                (again.status, again.header("content-type")),
                (404, Some("application/problem+json"))
            );
        }
        assert_eq!(remaining(node, "bob-key"), [900, 2]);
        let handle = open(node, "bob-key", 400);
        let at_once = std::thread::scope(|scope| {
            let settles: Vec<_> =
                (0..8).map(|_| scope.spawn(|| settle(node, &handle, 100).status)).collect();
            let mut statuses: Vec<u16> =
                settles.into_iter().map(|settled| settled.join().unwrap()).collect();
            statuses.sort_unstable();
            statuses
        });
        assert_eq!(at_once, [200, 404, 404, 404, 404, 404, 404, 404]);
        assert_eq!(remaining(node, "bob-key"), [800, 1]);
    });
}

#[test]
fn client_repeats_the_id() {
    on_both(|node| {
        let first = reserve(node, "bob-key", 400, "request 1");
        let again = reserve(node, "bob-key", 400, "request 1");
        assert_eq!((first.status, again.status), (200, 200));
        assert_eq!(handle(&first), handle(&again));
        assert_eq!(again.json()["reservation"]["replayed"], true);
        assert_eq!(
            again.json()["reservation"]["reserved"],
            first.json()["reservation"]["reserved"]
        );
        assert_eq!(left(&again.json()), [600, 2], "charged once");
        let other = reserve(node, "bob-key", 401, "request 1");
        assert_eq!((other.status, other.json()["field"].as_str()), (409, Some("reservation.id")));
        let elsewhere = reserve(node, "carol-key", 401, "request 1");
        assert_eq!(elsewhere.status, 200, "ids of different keys never meet");
        assert_eq!(settle(node, &handle(&first), 100).status, 200);
        assert_eq!(reserve(node, "bob-key", 401, "request 1").status, 200, "the id is free again");
        assert_eq!(remaining(node, "bob-key"), [499, 1]);
    });
}

#[test]
fn forged_handle() {
    on_both(|node| {
        let genuine = open(node, "bob-key", 400);
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for place in (3..genuine.len()).step_by(3) {
            let mut forged = genuine.clone().into_bytes();
            let digit = digits.iter().position(|digit| *digit == forged[place]).unwrap();
            forged[place] = digits[digit ^ 0b10_0000];
            let forged = String::from_utf8(forged).unwrap();
            let answer = settle(node, &forged, 0);
            assert!(matches!(answer.status, 400 | 404), "{place}: {answer:?}");
        }
        assert_eq!(remaining(node, "bob-key"), [600, 2]);
        assert_eq!(settle(node, &genuine, 100).status, 200);
    });
}

#[test]
fn two_max_tokens_members() {
    on_both(|node| {
        let bodies = [
            r#"{"api_key":"alice-key","usage":{"output_tokens":1,"output_tokens":4096},"reservation":{}}"#,
            r#"{"api_key":"alice-key","cost":{"total_tokens":1,"total_tokens":4096},"reservation":{}}"#,
            r#"{"api_key":"alice-key","usage":{"output_tokens":1},"usage":{"output_tokens":4096},"reservation":{}}"#,
        ];
        for body in bodies {
            assert_eq!(node.send("POST", "/check", &[], body).status, 400, "{body}");
        }
        let open = open(node, "alice-key", 400);
        let body = format!(
            r#"{{"handle":"{open}","usage":{{"prompt_tokens":1,"completion_tokens":2,"completion_tokens":0}}}}"#
        );
        let answer = node.send("POST", "/reservations/settle", &[], &body);
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (400, Some("usage.completion_tokens"))
        );
        assert_eq!(remaining(node, "alice-key"), [99, 99_600, 99_600]);
    });
}

#[test]
fn unpriced_model_is_free() {
    on_both(|node| {
        let ask = |model: &str| {
            let usage = json!({"input_tokens": 10, "output_tokens": 10});
            node.check(
                json!({"api_key": "dora-key", "model": model, "usage": usage, "reservation": {}}),
            )
        };
        let unnamed = node.check(json!({"api_key": "dora-key", "reservation": {}}));
        let unpriced = ask("other");
        for refused in [unnamed, unpriced] {
            assert_eq!((refused.status, refused.json()["field"].as_str()), (400, Some("model")));
        }
        let reserved = ask("gpt-5");
        let settled = post(
            node,
            "/reservations/settle",
            json!({
                "handle": handle(&reserved), "model": "other", "usage": {"input_tokens": 10, "output_tokens": 20},
            }),
        );
        assert_eq!(
            settled.json()["charged"]["cost_microusd"],
            213,
            "at the price of the reserved one"
        );
    });
}

#[test]
fn refused_large_request_empties_bucket() {
    on_both(|node| {
        open(node, "bob-key", 500);
        assert_eq!(reserve(node, "bob-key", 600, "large").status, 429);
        assert_eq!(reserve(node, "bob-key", 500, "small").status, 200);
    });
}

#[test]
fn refused_request_burns_another_limit() {
    on_both(|node| {
        open(node, "bob-key", 900);
        for id in ["a", "b", "c"] {
            assert_eq!(reserve(node, "bob-key", 200, id).status, 429);
        }
        assert_eq!(remaining(node, "bob-key"), [100, 2], "requests are not used up");
    });
}

#[test]
fn overshoot_dropped() {
    on_both(|node| {
        let handle = open(node, "bob-key", 400);
        let settled = settle(node, &handle, 5_000).json();
        assert_eq!(settled["limits"][0]["debt"], 4_000);
        assert_eq!(left(&settled), [-4_000, 2]);
        let refused = reserve(node, "bob-key", 1, "next");
        assert_eq!(refused.status, 429, "{refused:?}");
        // 4,001 tokens at one an hour.
        assert_eq!(refused.json()["retry_after_ms"].as_u64().unwrap() / 3_600_000, 4_000);
    });
}

#[test]
fn late_refund_readmits() {
    let redis = RedisServer::start_with_clock();
    let began = 1_800_000_000;
    redis.set_clock(Micros::from_secs(began));
    let catalog = CATALOG.replace("rate: 24/d, burst: 1000", "rate: 10/s, burst: 1000");
    let node = Node::with_catalog(&catalog, &["--store", &redis.url(), "--check-deadline", "5s"]);
    let first = open(&node, "bob-key", 1_000);
    // In 50 s a half of it has drained; a further reservation takes that half.
    redis.set_clock(Micros::from_secs(began + 50));
    let second = open(&node, "bob-key", 500);
    let settled = settle(&node, &first, 0).json();
    // The level was 500 at the least: only so much goes back, not what has drained already.
    assert_eq!(left(&settled)[0], 500, "{settled}");
    redis.set_clock(Micros::from_secs(began + 100));
    assert_eq!(remaining(&node, "bob-key")[0], 1_000);
    assert_eq!(left(&settle(&node, &second, 0).json())[0], 1_000);
    assert_eq!(remaining(&node, "bob-key")[0], 1_000, "never more than the burst");
}

#[test]
fn limit_change_resets_usage() {
    on_both(|node| {
        let open = open(node, "bob-key", 400);
        let changed = CATALOG
            .replace("rate: 24/d, burst: 1000 }", "rate: 48/d, burst: 2000 }")
            .replace("limit: 3, period: month", "limit: 7, period: month");
        fs::write(node.catalog_file(), changed).unwrap();
        eventually("the limits are larger", || remaining(node, "bob-key") == [1_600, 6]);
        assert_eq!(left(&settle(node, &open, 100).json()), [1_900, 6]);
        fs::write(node.catalog_file(), CATALOG).unwrap();
        eventually("the limits are as before", || remaining(node, "bob-key") == [900, 2]);
    });
}

#[test]
fn restarted_number() {
    let redis = RedisServer::start();
    let node = Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]);
    let first = open(&node, "bob-key", 400);
    // The subject's counters are lost, and with them the numbers of its reservations.
    redis.command(&["DEL", &Subject::api_key("bob").redis_key()]);
    let second = open(&node, "bob-key", 300);
    assert_eq!(remaining(&node, "bob-key"), [700, 2]);
    // Both have the number 1, but the first was charged to what is gone.
    assert_eq!(left(&settle(&node, &first, 0).json()), [700, 2]);
    assert_eq!(left(&settle(&node, &second, 0).json()), [1_000, 2]);
    assert_eq!(settle(&node, &first, 0).status, 404);
}

//! The rules R1 to R10 of the design, tested with the binary; with the memory store and with Redis
//! if both can break the rule.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::json;
use tollgate::time::{Clock as _, Micros, SystemClock};

use crate::support::node::Node;
use crate::support::redis::RedisServer;

const CATALOG: &str = r#"
version: 1
apis:
  - id: inference
    stages: [ { name: prod, throttle: { rate: 1/d, burst: 6 } } ]
plans:
  - id: pro
    throttle: { rate_limit: 10, burst_limit: 5 }
    quota: { limit: 7, period: day }
    limits: [ { name: tpm, unit: total_tokens, throttle: { rate: 60/min, burst: 100 } } ]
  - { id: closed, throttle: { rate: 1/s, burst: 2 }, on_store_failure: closed }
keys:
  - { id: alice, value: alice-key, plans: [pro] }
  - { id: carol, value: carol-key, plans: [closed] }
policies:
  - { name: slow, throttle: { rate: 1/h, burst: 10 } }
  - { name: other, throttle: { rate: 1/h, burst: 3 } }
  - { name: quick, throttle: { rate: 10/s, burst: 5 } }
  - { name: daily, quota: { limit: 3, period: day } }
"#;

/// Runs a test on a node with the memory store and on one with Redis.
fn on_both(test: impl Fn(&Node)) {
    test(&Node::with_catalog(CATALOG, &[]));
    let redis = RedisServer::start();
    test(&Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]));
}

#[test]
fn r1_a_refused_check_charges_no_limit() {
    on_both(|node| {
        let both = json!({"policies": [{"policy": "slow", "key": "a"}, {"policy": "other", "key": "a"}], "cost": 3});
        assert_eq!(node.check(both.clone()).status, 200);
        let refused = node.check(both);
        assert_eq!(refused.status, 429);
        assert_eq!(refused.json()["violated"], "policy:other/throttle");
        assert_eq!(
            refused.json()["limits"][0]["remaining"],
            7,
            "the limit that had room is not charged"
        );
        assert!(node.passes("slow", "a", 7) && !node.passes("slow", "a", 1));
    });
}

#[test]
fn r1_a_peek_and_a_refusal_write_nothing() {
    let redis = RedisServer::start();
    let node = Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]);
    let before = redis.command(&["DBSIZE"]);
    for _ in 0..3 {
        assert!(node.passes("slow", "nobody", 0));
    }
    assert_eq!(redis.command(&["DBSIZE"]), before, "a peek made no key");
}

#[test]
fn r2_a_node_with_a_wrong_clock_decides_like_the_others() {
    // Equivalent to a wrong clock of the node: the machine's clock is right, and Redis' is 40 days
    // off.
    let redis = RedisServer::start_with_clock();
    redis.shift_clock(40 * 86_400 * 1_000_000);
    let node = Node::with_catalog(
        CATALOG,
        &["--store", &redis.url(), "--check-deadline", "5s", "--denial-memo", "false"],
    );
    assert!(node.passes("daily", "a", 2));
    // While the node runs, the clock moves out of every window that it offered.
    redis.shift_clock(-90 * 86_400 * 1_000_000);
    assert!(!node.passes("daily", "a", 2), "a later window that is stored still counts");
    assert!(node.passes("daily", "b", 2));
    redis.shift_clock(90 * 86_400 * 1_000_000);
    let answer = node.check(json!({"policy": "daily", "key": "a", "cost": 3}));
    assert_eq!((answer.status, answer.json()["decided_by"].as_str()), (200, Some("redis")));
}

#[test]
fn r2_a_step_of_redis_clock_blocks_nothing_and_costs_one_burst_at_most() {
    let redis = RedisServer::start_with_clock();
    let hour = 3_600_000_000;
    let start = SystemClock.now();
    redis.set_clock(start);
    let node = Node::with_catalog(
        CATALOG,
        &["--store", &redis.url(), "--check-deadline", "5s", "--denial-memo", "false"],
    );
    assert!(node.passes("quick", "a", 5) && !node.passes("quick", "a", 1));
    let back = Micros::new(start.get() - hour);
    redis.set_clock(back);
    assert!(!node.passes("quick", "a", 1), "a step back refills nothing");
    redis.set_clock(back + Micros::new(100_000));
    assert!(node.passes("quick", "a", 1), "and blocks nothing: a tenth of a second refills one");
    assert!(!node.passes("quick", "a", 1));
    redis.set_clock(back + Micros::new(hour));
    assert!(node.passes("quick", "a", 5), "a step forward costs one burst");
    assert!(!node.passes("quick", "a", 1));
}

#[test]
fn r3_no_window_admits_more_than_burst_and_rate() {
    on_both(|node| {
        let began = std::time::Instant::now();
        let admitted = (0..400).filter(|_| node.passes("quick", "hot", 1)).count();
        let most = 5.0 + 10.0 * began.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let (admitted, least) = (admitted as f64, 5.0);
        assert!(admitted <= most && admitted >= least, "{admitted} of at most {most}");
    });
}

#[test]
fn r5_a_changed_limit_applies_at_once_and_keeps_what_is_used() {
    on_both(|node| {
        assert!(node.passes("slow", "a", 8));
        let change = |burst: u32| {
            let text =
                CATALOG.replace("rate: 1/h, burst: 10 }", &format!("rate: 1/h, burst: {burst} }}"));
            std::fs::write(node.catalog_file(), text).unwrap();
            let limit = || {
                node.check(json!({"policy": "slow", "key": "a", "cost": 0})).json()["limits"][0]["limit"].clone()
            };
            crate::support::eventually("the new limit is in use", || limit() == burst);
        };
        change(20);
        assert!(node.passes("slow", "a", 12) && !node.passes("slow", "a", 1), "larger, at once");
        change(5);
        let lowered = node.check(json!({"policy": "slow", "key": "a", "cost": 1}));
        assert_eq!(
            (lowered.status, lowered.json()["limits"][0]["remaining"].as_u64()),
            (429, Some(0))
        );
        assert!(
            lowered.json()["retry_after_ms"].as_u64() > Some(15 * 3_599_000),
            "sixteen units have to drain"
        );
    });
}

#[test]
fn r5_two_nodes_with_different_revisions_share_one_token_bucket() {
    let redis = RedisServer::start();
    let flags = ["--store", &redis.url(), "--check-deadline", "5s"];
    let old = Node::with_catalog(CATALOG, &flags);
    let new = Node::with_catalog(
        &CATALOG.replace("rate: 1/h, burst: 10 }", "rate: 1234567/d, burst: 4 }"),
        &flags,
    );
    assert!(old.passes("slow", "a", 3));
    let seen = new.check(json!({"policy": "slow", "key": "a", "cost": 4}));
    assert_eq!(seen.status, 429, "what was charged under the old rate counts under the new");
    // The new rate refills about fourteen units a second; the old node sees that nothing was reset.
    assert!(!old.passes("slow", "a", 10) || old.passes("slow", "a", 0));
}

#[test]
fn r6_retry_after_is_when_the_same_request_is_admitted() {
    let redis = RedisServer::start_with_clock();
    let start = SystemClock.now();
    redis.set_clock(start);
    let node = Node::with_catalog(
        CATALOG,
        &["--store", &redis.url(), "--check-deadline", "5s", "--denial-memo", "false"],
    );
    assert!(node.passes("quick", "a", 5));
    for cost in [1, 3, 5] {
        let refused = node.check(json!({"policy": "quick", "key": "a", "cost": cost}));
        let wait = refused.json()["retry_after_ms"].as_u64().unwrap();
        assert_eq!(wait, cost * 100);
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.header("retry-after-ms"), Some(&*wait.to_string()));
        assert_eq!(refused.header("x-should-retry"), None);
        redis.set_clock(start + Micros::new(wait * 1000 - 1));
        assert_eq!(
            node.check(json!({"policy": "quick", "key": "a", "cost": cost})).status,
            429,
            "not a microsecond earlier"
        );
        redis.set_clock(start);
    }
    redis.set_clock(start + Micros::new(300_000));
    assert!(node.passes("quick", "a", 3), "and not later");
    let never = node.check(json!({"policy": "quick", "key": "a", "cost": 6}));
    assert_eq!((never.status, never.header("retry-after")), (422, None));
}

#[test]
fn r6_a_client_is_told_not_to_sleep_for_more_than_a_minute() {
    let redis = RedisServer::start_with_clock();
    let start = SystemClock.now();
    redis.set_clock(start);
    let flags = ["--store", &redis.url(), "--check-deadline", "5s", "--denial-memo", "false"];
    let node = Node::with_catalog(CATALOG, &flags);
    assert!(node.passes("slow", "a", 10));
    let ask = || node.check(json!({"policy": "slow", "key": "a"}));
    let of_gateway = |query: &str| {
        let path = format!("/authz?policy=slow&key_header=x-user{query}");
        node.send("GET", &path, &[("x-user", "a")], "")
    };
    for (passed, wait, retry) in [
        (0, "3600000", Some("false")),
        (3_539_999_000, "60001", Some("false")),
        (3_540_000_000, "60000", None),
    ] {
        redis.set_clock(start + Micros::new(passed));
        for refused in [ask(), of_gateway(""), of_gateway("&deny_status=403")] {
            assert_eq!(refused.header("retry-after-ms"), Some(wait), "{refused:?}");
            assert_eq!(refused.header("x-should-retry"), retry, "{refused:?}");
        }
    }
    redis.set_clock(start + Micros::new(3_600_000_000));
    assert_eq!(ask().header("retry-after-ms"), None, "it is admitted");
}

#[test]
fn r8_a_check_that_times_out_is_sent_once_and_charged_at_most_once() {
    let redis = RedisServer::start();
    let proxy = crate::support::proxy::Proxy::to(redis.port());
    let node = Node::with_catalog(CATALOG, &["--store", &proxy.url(), "--check-deadline", "50ms"]);
    assert!(node.passes("slow", "a", 1));
    proxy.delay(std::time::Duration::from_millis(200));
    let late = node.check(json!({"policy": "slow", "key": "a", "cost": 1}));
    assert_eq!(late.json()["decided_by"], "fallback");
    proxy.delay(std::time::Duration::ZERO);
    let used = || {
        let peek = node.check(json!({"policy": "slow", "key": "a", "cost": 0}));
        peek.json()["limits"][0]["remaining"].as_u64().map(|left| 10 - left)
    };
    crate::support::eventually("Redis answers again", || used() == Some(2));
    assert_eq!(used(), Some(2), "the late check was charged once");
}

#[test]
fn r9_no_secret_and_no_name_of_a_subject_is_in_redis() {
    let redis = RedisServer::start();
    let node = Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]);
    assert_eq!(node.check(json!({"api_key": "alice-key"})).status, 200);
    assert!(node.passes("slow", "ip:203.0.113.7", 1));
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis.connection()).unwrap();
    assert!(keys.len() >= 3);
    for key in keys {
        assert!(key.starts_with("tg:{"), "{key}");
        for secret in ["alice", "203", "slow"] {
            assert!(!key.contains(secret), "{key}");
        }
    }
    assert!(!node.log().contains("alice-key") && !node.get("/metrics").body.contains("alice"));
}

#[test]
fn r10_plans_that_differ_are_decided_by_the_strictest() {
    let redis = RedisServer::start();
    let node = Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]);
    let mut redis = redis;
    redis.kill();
    crate::support::eventually("the node notices", || {
        node.get("/readyz").body.contains("degraded")
    });
    assert_eq!(node.check(json!({"api_key": "alice-key"})).status, 200, "open");
    assert_eq!(node.check(json!({"api_key": "carol-key"})).status, 503, "closed");
    let both = json!({"api_key": "carol-key", "policies": [{"policy": "slow", "key": "a"}]});
    assert_eq!(node.check(both).status, 503);
    assert_eq!(
        node.check(json!({"api_key": "nobody"})).status,
        503,
        "`open` admits within limits, never an unknown key: Redis may have it"
    );
}

#[test]
fn a_refusal_is_cached_until_its_retry_after_and_not_over_a_reload() {
    let redis = RedisServer::start();
    // The heartbeat is a script call too, so the metric counts calls with checks only.
    let node = Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]);
    assert!(node.passes("other", "a", 3));
    let calls = || node.metric("tollgate_store_batch_checks_count", "");
    let before = calls();
    for _ in 0..200 {
        assert!(!node.passes("other", "a", 1));
    }
    assert!(
        calls() - before <= 2.0,
        "one call for each worker, and these are {}",
        calls() - before
    );
    let answer = node.check(json!({"policy": "other", "key": "a"}));
    assert_eq!((answer.status, answer.json()["decided_by"].as_str()), (429, Some("memo")));
    assert_eq!(answer.json()["violated"], "policy:other/throttle");
    assert!(
        answer.header("ratelimit").is_some()
            && answer.json()["retry_after_ms"].as_u64() > Some(3_500_000)
    );
    assert!(node.passes("other", "a", 0), "a peek is not refused");
    std::fs::write(
        node.catalog_file(),
        CATALOG.replace("rate: 1/h, burst: 3", "rate: 1/h, burst: 4"),
    )
    .unwrap();
    crate::support::eventually("the larger limit applies", || node.passes("other", "a", 1));
}

#[test]
fn a_cached_refusal_ends_when_the_request_fits() {
    let redis = RedisServer::start();
    let node = Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "5s"]);
    let began = std::time::Instant::now();
    let mut admitted = 0;
    while began.elapsed() < std::time::Duration::from_secs(1) {
        admitted += u32::from(node.passes("quick", "a", 1));
    }
    let most = 5.0 + 10.0 * began.elapsed().as_secs_f64();
    assert!(f64::from(admitted) <= most && admitted >= 14, "{admitted} of {most}");
}

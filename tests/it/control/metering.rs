//! Units that are counted as usage, exactly, over several nodes and days, and with leases.
//! Needs programs besides Rust, so `make fast` skips it.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::node;
use super::usage::{DAY, PLANS, days, today};
use crate::support::eventually;
use crate::support::http::KeepAlive;
use crate::support::redis::RedisServer;

/// Every check of these tests has to be judged by the store: otherwise it would not be counted.
const PATIENT: [&str; 2] = ["--check-deadline", "10s"];

/// The microseconds until two hours before the next midnight.
fn to_late_evening() -> i64 {
    let now = jiff::Timestamp::now().as_microsecond();
    (DAY - now % DAY + 22 * DAY / 24) % DAY
}

#[test]
fn usage_is_exactly_the_admitted_cost_over_two_nodes_and_a_change_of_day() {
    let redis = RedisServer::start_with_clock();
    let ahead = to_late_evening();
    redis.shift_clock(ahead);
    let url = redis.url();
    let dir = tempfile::tempdir().unwrap();
    let records = ["one", "two"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    let nodes = records.each_ref().map(|record| {
        let flags = ["--store", &url, PATIENT[0], PATIENT[1], "--record", record];
        node(Some(PLANS), &[&flags[..], &["--denial-memo", "false"]].concat())
    });
    let admitted: [AtomicU64; 3] = Default::default();
    let (tokens, noon) = (AtomicU64::new(0), Barrier::new(6));
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (nodes, admitted, tokens, noon) = (&nodes, &admitted, &tokens, &noon);
            let redis = &redis;
            scope.spawn(move || {
                let mut connection = KeepAlive::open(nodes[client % 2].address()).unwrap();
                for number in 0..300_u64 {
                    // Each client sends half of its requests on either day.
                    if number == 150 && noon.wait().is_leader() {
                        redis.shift_clock(ahead + DAY);
                    }
                    let plan = (number % 3) as usize;
                    let cost = json!({"requests": number % 4, "total_tokens": number % 7});
                    let key = ["key-a", "key-b", "key-c"][plan];
                    let body = json!({"api_key": key, "cost": cost});
                    let answer = connection.post("/check", &body.to_string()).unwrap();
                    if answer.status == 200 {
                        admitted[plan].fetch_add(number % 4, Ordering::Relaxed);
                        if plan == 0 {
                            tokens.fetch_add(number % 7, Ordering::Relaxed);
                        }
                    } else {
                        assert_eq!(answer.status, 429, "{answer:?}");
                    }
                }
            });
        }
    });
    let start = today(ahead);
    let sum = |days: &[[i64; 2]]| days.iter().map(|day| day[0].cast_unsigned()).sum::<u64>();
    for (place, (plan, key)) in [("daily", "a"), ("monthly", "b"), ("open", "c")].iter().enumerate()
    {
        for node in &nodes {
            let days = days(node, plan, key, "requests", start);
            assert_eq!(days.len(), 2, "{plan}: {days:?}");
            assert!(days.iter().all(|day| day[0] > 0), "{plan}: {days:?}");
            assert_eq!(sum(&days), admitted[place].load(Ordering::Relaxed), "{plan}: {days:?}");
        }
    }
    assert_eq!(sum(&days(&nodes[0], "daily", "a", "total_tokens", start)), tokens.into_inner());
    let of_daily = days(&nodes[0], "daily", "a", "requests", start);
    assert!(of_daily.iter().all(|day| day[0] + day[1] == 400), "{of_daily:?}");
    // A longer quota has the rest at the end of each day, unless a month ends in between.
    let of_monthly = days(&nodes[0], "monthly", "b", "requests", start);
    let used_before = if today(ahead + DAY).day() == 1 { 0 } else { of_monthly[0][0] };
    assert_eq!(of_monthly[0][0] + of_monthly[0][1], 700);
    assert_eq!(used_before + of_monthly[1][0] + of_monthly[1][1], 700);
    for node in nodes {
        assert_eq!(node.stop(), Some(0));
    }
    let history = records.map(|record| std::fs::read_to_string(record).unwrap()).concat();
    let replayed = tollgate::engine::replay(&history).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(replayed, 6 * 300);
}

#[test]
fn sixty_two_days_are_kept_and_the_day_before_is_dropped() {
    let redis = RedisServer::start_with_clock();
    redis.shift_clock(0);
    let node = node(Some(PLANS), &["--store", &redis.url(), PATIENT[0], PATIENT[1]]);
    for day in 0..64 {
        redis.shift_clock(day * DAY);
        for (number, key) in [(0, "key-a"), (1, "key-b")] {
            let answer = node.check(json!({"api_key": key, "cost": 1 + day % 5 + number}));
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    for (plan, key, number) in [("daily", "a", 0), ("monthly", "b", 1)] {
        let days = days(&node, plan, key, "requests", today(0));
        let used: Vec<i64> = days.iter().map(|day| day[0]).collect();
        let kept: Vec<i64> = (1..64).map(|day| 1 + day % 5 + number).collect();
        assert_eq!((used[0], &used[1..]), (0, &*kept), "{plan}");
    }
    // The days are one string beside the subject's: 23 bytes for each day.
    let keys = redis.command(&["KEYS", "tg:*:usage"]);
    let redis::Value::Array(keys) = keys else { panic!("{keys:?}") };
    assert_eq!(keys.len(), 2);
    for key in keys {
        let key: String = redis::from_redis_value(key).unwrap();
        let length: u64 = redis::from_redis_value(redis.command(&["STRLEN", &key])).unwrap();
        // No tokens were used on the daily plan's days, so no days of tokens are kept.
        assert_eq!(length, 1 + 62 * 23, "{key}");
        let lives: i64 = redis::from_redis_value(redis.command(&["TTL", &key])).unwrap();
        assert!((62 * 86_400..=64 * 86_400).contains(&lives), "{lives} s");
    }
}

#[test]
fn a_refused_check_and_one_without_cost_are_not_metered() {
    let redis = RedisServer::start();
    let node = node(Some(PLANS), &["--store", &redis.url(), PATIENT[0], PATIENT[1]]);
    let used = |unit: &str| days(&node, "daily", "a", unit, today(0))[0][0];
    assert_eq!(node.check(json!({"api_key": "key-a", "cost": {"total_tokens": 5}})).status, 200);
    // The requests do not fit, so the tokens are not charged either.
    let both = json!({"requests": 400, "total_tokens": 7});
    assert_eq!(node.check(json!({"api_key": "key-a", "cost": both})).status, 429);
    let look = json!({"requests": 0, "total_tokens": 0});
    assert_eq!(node.check(json!({"api_key": "key-a", "cost": look})).status, 200);
    assert_eq!((used("requests"), used("total_tokens")), (1, 5));
    let answer = node.check(json!({"api_key": "key-c"})).json();
    assert_eq!(answer["limits"].as_array().unwrap().len(), 1, "no answer tells of a meter");
}

#[test]
fn usage_covered_by_leases_is_counted() {
    let redis = RedisServer::start();
    let node = node(Some(PLANS), &["--store", &redis.url(), PATIENT[0], PATIENT[1]]);
    let mut leased = 0;
    let mut admitted = 0;
    for _ in 0..1_500 {
        let answer = node.check(json!({"api_key": "key-d"}));
        leased += u64::from(answer.body.contains("\"lease\""));
        admitted += i64::from(answer.status == 200);
    }
    assert!(leased > 100, "{leased} of 1500");
    eventually("all requests are counted", || {
        days(&node, "ahead", "d", "requests", today(0))[0][0] == admitted
    });
}

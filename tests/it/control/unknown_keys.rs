//! A flood of unknown keys must not reach Redis, nor affect requests with known keys.
//! Needs programs besides Rust, so `make fast` skips it.

use std::time::Instant;

use serde_json::json;

use super::{node, plan_and_key};
use crate::support::http::KeepAlive;
use crate::support::redis::RedisServer;

/// The number of registry entries that Redis was queried for.
fn lookups(redis: &RedisServer) -> u64 {
    let info: String =
        redis::cmd("INFO").arg("commandstats").query(&mut redis.connection()).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_hget:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[test]
fn a_flood_of_unknown_keys_costs_redis_little_and_does_not_affect_known_keys() {
    let redis = RedisServer::start();
    let node = node(None, &["--store", &redis.url(), "--check-deadline", "5s"]);
    let (_, value, _) = plan_and_key(&node, 1_000_000);
    assert_eq!(node.check(json!({"api_key": value})).status, 200);
    let status = |connection: &mut KeepAlive, key: &str| {
        let body = json!({"api_key": key}).to_string();
        connection.post("/check", &body).unwrap().status
    };
    let before = lookups(&redis);
    let mut connection = KeepAlive::open(node.address()).unwrap();
    for _ in 0..100 {
        assert_eq!(status(&mut connection, "the-same-guess-again"), 403);
    }
    assert_eq!(lookups(&redis) - before, 1, "a guess is asked for once");
    let began = Instant::now();
    let refused: Vec<usize> = std::thread::scope(|scope| {
        let flood = |thread: usize| {
            let mut connection = KeepAlive::open(node.address()).unwrap();
            let mut guess = |number| status(&mut connection, &format!("guess-{thread}-{number}"));
            let statuses: Vec<u16> = (0..1000).map(&mut guess).collect();
            assert!(statuses.iter().all(|status| [403, 503].contains(status)), "{statuses:?}");
            statuses.into_iter().filter(|status| *status == 503).count()
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || flood(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // 200 at once, and as many for each poll in the elapsed time.
    let looks = began.elapsed().as_millis() as u64 / 200 + 2;
    let asked = lookups(&redis) - before - 1;
    // Each poll of the registry may read its document once.
    assert!(asked <= 200 * looks + looks, "{asked} in {looks} looks");
    assert_eq!(asked + refused.iter().sum::<usize>() as u64, 4000, "each is asked or refused");
    assert_eq!(status(&mut connection, &value), 200);
}

//! A Redis that is far away: checks do not wait for the reply to the call before theirs, and each
//! one waits until its own deadline.
//! Needs programs besides Rust, so `make fast` skips it.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};
use tollgate::algorithm::{Calendar, Period, Quota};
use tollgate::limit::{Charge, Charges, Limit, Subject, Unit};
use tollgate::store::{CheckContext, Redis, RedisClient, RedisOptions, StoreError, StoreVerdict};
use tollgate::telemetry::Metrics;

use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::redis_cluster::RedisCluster;
use crate::twins::options;

const NONE: &CheckContext = &CheckContext::NONE;
/// Long enough that a busy machine does not decide the outcome. Parts of it are what matters.
const DEADLINE: Duration = Duration::from_millis(1_500);
/// The checks of one subject at each distance.
const CHECKS: usize = 150;

/// One request of this key, of a budget that never ends and counts every charge.
fn one(key: &str) -> Charges {
    let calendar = Arc::new(Calendar::new(Period::Month(1), "UTC").unwrap());
    let quota = Quota { limit: 1_000_000, calendar };
    let limit = Limit::new("counted", Unit::requests(), quota, false);
    [Charge::new(Subject::policy("p", key), Arc::new(limit), 1)].into_iter().collect()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Runs a test with a client of the Redis at `url`.
fn with_client<F: Future<Output = ()>>(
    url: &str,
    deadline: Duration,
    test: impl FnOnce(RedisClient) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = RedisOptions { deadline, ..options(url) };
        let redis = Redis::new(&options, Arc::new(Metrics::new()), None).unwrap();
        test(redis.open_client().await).await;
    });
}

/// The units that the key has used.
async fn used(client: &RedisClient, key: &str) -> i64 {
    let mut peek = one(key);
    peek[0].cost = 0;
    client.judge(&peek, NONE, soon()).await.unwrap().verdict.states[0].level
}

/// Sends a check of each key every hundredth of the deadline, as a steady stream of requests does,
/// and returns the results of each key in the order of its checks.
async fn stream(
    client: &RedisClient,
    keys: &[String],
) -> Vec<Vec<Result<StoreVerdict, StoreError>>> {
    let (mut every, mut checks) = (interval(DEADLINE / 100), JoinSet::new());
    for number in 0..CHECKS {
        every.tick().await;
        for (place, key) in keys.iter().enumerate() {
            let (client, charges) = (client.clone(), one(key));
            let deadline = Instant::now() + DEADLINE;
            checks.spawn(
                async move { (place, number, client.judge(&charges, NONE, deadline).await) },
            );
        }
        // Every check is in its queue before the next one is made.
        tokio::task::yield_now().await;
    }
    let mut results = checks.join_all().await;
    results.sort_by_key(|(place, number, _)| (*place, *number));
    let of_key = |place| {
        let of_key = results.iter().filter(move |result| result.0 == place);
        of_key.map(|(_, _, result)| result.clone()).collect()
    };
    (0..keys.len()).map(of_key).collect()
}

/// Asserts that nearly all checks of each key are judged by Redis, in order and once, however far
/// it moves away after a client has connected.
fn assert_judged_at_all_distances(url: &str, proxies: &[Proxy], keys: &[&str]) {
    for part in [0.2, 0.5, 0.8] {
        with_client(url, DEADLINE, |client| async move {
            let keys: Vec<String> = keys.iter().map(|key| format!("{key}{part}")).collect();
            for proxy in proxies {
                proxy.delay(DEADLINE.mul_f64(part));
            }
            let results = stream(&client, &keys).await;
            for proxy in proxies {
                proxy.delay(Duration::ZERO);
            }
            for (key, results) in keys.iter().zip(results) {
                let level = |result: &Result<StoreVerdict, _>| {
                    Some(result.as_ref().ok()?.verdict.states[0].level)
                };
                let levels: Vec<i64> = results.iter().filter_map(level).collect();
                let (judged, errors) = (levels.len(), results.iter().find(|it| it.is_err()));
                assert!(judged * 100 >= CHECKS * 99, "{judged} of {CHECKS} at {part}: {errors:?}");
                assert!(levels.is_sorted_by(|one, next| one < next), "{part}: {levels:?}");
                let charged = usize::try_from(used(&client, key).await).unwrap();
                assert!((judged..=CHECKS).contains(&charged), "{charged} for {judged} at {part}");
            }
        });
    }
}

#[test]
fn a_redis_as_far_as_four_fifths_of_the_deadline_judges_every_check_once_and_in_order() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    assert_judged_at_all_distances(&proxy.url(), std::slice::from_ref(&proxy), &["a", "b"]);
}

#[test]
fn so_does_a_cluster_that_is_as_far() {
    let cluster = RedisCluster::start(0, 0);
    let proxies = cluster.behind_proxies();
    assert_judged_at_all_distances(&cluster.url(), &proxies, &["a", "b", "c"]);
}

#[test]
fn checks_of_one_call_end_at_their_own_deadlines_and_are_charged_once() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    with_client(&proxy.url(), DEADLINE, |client| async move {
        assert_eq!(used(&client, "a").await, 0);
        let before = server.script_calls();
        proxy.delay(DEADLINE / 2);
        let charges = one("a");
        let by = |part| client.judge(&charges, NONE, Instant::now() + DEADLINE.mul_f64(part));
        // More than leave alone.
        let results = tokio::join!(by(0.1), by(1.0), by(0.1), by(2.0), by(2.0));
        assert!(matches!(results.0, Err(StoreError::Timeout)), "{:?}", results.0);
        assert!(matches!(results.2, Err(StoreError::Timeout)), "{:?}", results.2);
        let patient = [results.1, results.3, results.4];
        let levels = patient.map(|result| result.unwrap().verdict.states[0].level);
        assert_eq!(levels, [1, 3, 4], "the call went on for the others");
        assert_eq!(server.script_calls() - before, 1, "it was one call, sent once");
        assert_eq!(used(&client, "a").await, 5);
        assert!(!client.is_degraded());
    });
}

#[test]
fn a_call_whose_deadlines_have_passed_is_not_sent_again() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    with_client(&proxy.url(), DEADLINE, |client| async move {
        assert_eq!(used(&client, "a").await, 0);
        server.command(&["SCRIPT", "FLUSH"]);
        proxy.delay(DEADLINE / 2);
        let hurried = client.judge(&one("a"), NONE, Instant::now() + DEADLINE / 10).await;
        assert!(matches!(hurried, Err(StoreError::Timeout)), "{hurried:?}");
        // Behind the reply of the first call, which says that Redis does not know the script.
        let patient = client.judge(&one("a"), NONE, soon()).await.unwrap();
        assert_eq!(patient.verdict.states[0].level, 0, "the first check was not charged");
        assert_eq!(used(&client, "a").await, 1);
    });
}

#[test]
fn a_far_redis_that_hangs_is_given_up_and_no_check_waits_for_it() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    with_client(&proxy.url(), DEADLINE, |client| async move {
        assert_eq!(used(&client, "a").await, 0);
        proxy.delay(DEADLINE / 4);
        assert!(client.judge(&one("a"), NONE, soon()).await.is_ok());
        server.signal(Signal::STOP);
        let (mut every, mut checks) = (interval(DEADLINE / 20), JoinSet::new());
        let began = Instant::now();
        while !client.is_degraded() {
            assert!(began.elapsed() < DEADLINE * 10, "the connection is not given up");
            every.tick().await;
            let client = client.clone();
            checks.spawn(
                async move { client.judge(&one("a"), NONE, Instant::now() + DEADLINE).await },
            );
        }
        // Those whose deadline is not over do not wait until then.
        let results = timeout(Duration::from_secs(10), checks.join_all()).await.unwrap();
        let kinds: Vec<&str> = results
            .iter()
            .map(|result| result.as_ref().map_or_else(StoreError::kind, |_| "ok"))
            .collect();
        assert!(kinds.iter().all(|kind| ["timeout", "unreachable"].contains(kind)), "{kinds:?}");
        assert!(kinds.contains(&"timeout") && kinds.contains(&"unreachable"), "{kinds:?}");
        server.signal(Signal::CONT);
        proxy.delay(Duration::ZERO);
        let is_back = async {
            while client.judge(&one("b"), NONE, soon()).await.is_err() {
                every.tick().await;
            }
        };
        timeout(Duration::from_secs(10), is_back).await.unwrap();
        let charged = usize::try_from(used(&client, "a").await).unwrap();
        assert!(charged <= results.len() + 1, "{charged} charged of {}", results.len());
    });
}

#[test]
fn a_check_alone_is_one_script_call_and_one_write_of_its_connection() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    with_client(&proxy.url(), DEADLINE, |client| async move {
        assert_eq!(used(&client, "a").await, 0);
        let before = (proxy.writes(), server.script_calls());
        for _ in 0..CHECKS {
            assert!(client.judge(&one("a"), NONE, soon()).await.is_ok());
        }
        let after = (proxy.writes(), server.script_calls());
        assert_eq!((after.0 - before.0, after.1 - before.1), (150, 150));
    });
}

//! Damaged strings in Redis: cut, with stray bytes, of another format, or keys of another type.
//! Only the checks that read them fail, none passes because of them, and nothing writes over them
//! but a reset.
//! Needs programs besides Rust, so `make fast` skips it.

use std::sync::Arc;
use std::time::Duration;

use redis::Commands as _;
use serde_json::json;
use tokio::time::Instant;
use tollgate::algorithm::{Calendar, Period, Quota, Throttle};
use tollgate::limit::{Charge, Charges, Limit, Subject, Unit};
use tollgate::store::{CheckContext, Redis, RedisClient, StoreError, StoreVerdict};
use tollgate::telemetry::Metrics;
use tollgate::time::Micros;

use crate::control::{TOKEN, as_bearer, call, node};
use crate::support::redis::RedisServer;
use crate::twins::options;

type Answer = Result<StoreVerdict, StoreError>;

/// A client with a Redis server of its own.
struct Store {
    runtime: tokio::runtime::Runtime,
    connection: redis::Connection,
    client: RedisClient,
    server: RedisServer,
}

impl Store {
    fn start() -> Self {
        let server = RedisServer::start_with_clock();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let redis = Redis::new(&options(&server.url()), Arc::new(Metrics::new()), None).unwrap();
        let client = runtime.block_on(redis.open_client());
        drop(entered);
        Self { runtime, connection: server.connection(), client, server }
    }

    /// The answers to checks of one call.
    fn judge<const N: usize>(&self, checks: &[Charges; N]) -> [Answer; N] {
        let deadline = Instant::now() + Duration::from_secs(10);
        let answers = self.client.judge_all(checks, &CheckContext::NONE, deadline);
        self.runtime.block_on(answers).try_into().unwrap()
    }

    fn set(&mut self, bytes: &[u8]) {
        self.connection.set::<_, _, ()>(bad_key(), bytes).unwrap();
    }

    fn stored(&mut self) -> Vec<u8> {
        self.connection.get(bad_key()).unwrap()
    }
}

fn bad_key() -> String {
    Subject::policy("p", "bad").redis_key()
}

fn throttle(name: &str) -> Arc<Limit> {
    let throttle = Throttle::new("1/h".parse().unwrap(), 5).unwrap();
    Arc::new(Limit::new(name, Unit::requests(), throttle, false))
}

fn quota(name: &str) -> Arc<Limit> {
    let calendar = Arc::new(Calendar::new(Period::Month(1), "UTC").unwrap());
    Arc::new(Limit::new(name, Unit::requests(), Quota { limit: 5, calendar }, false))
}

fn check(key: &str, limits: &[&Arc<Limit>], cost: u64) -> Charges {
    let charge =
        |limit: &&Arc<Limit>| Charge::new(Subject::policy("p", key), Arc::clone(limit), cost);
    limits.iter().map(charge).collect()
}

fn is_bad_row(answer: &Answer) -> bool {
    matches!(answer, Err(StoreError::BadRow(_)))
}

fn is_allowed(answer: &Answer) -> bool {
    answer.as_ref().is_ok_and(|judged| judged.verdict.allowed)
}

/// Cuts at all places, stray bytes at all places, and some of other kinds.
fn damages(whole: &[u8]) -> Vec<(String, Vec<u8>)> {
    let stray: [&[u8]; 8] =
        [&[0], &[255], &[2; 2], &[0; 7], &[2; 7], &[1; 12], &[0, 24, 1, 2, 3, 4, 5], &[2; 35]];
    let places = 0..=whole.len();
    let mut damages: Vec<(String, Vec<u8>)> = places
        .clone()
        .flat_map(|at| stray.map(|bytes| (at, bytes)))
        .map(|(at, bytes)| {
            let (before, behind) = whole.split_at(at);
            (format!("{bytes:?} at {at}"), [before, bytes, behind].concat())
        })
        .collect();
    // Without its last rows a string looks as if they had drained.
    let cuts = (0..whole.len()).filter(|len| ![5, 40, 59].contains(len));
    damages.extend(cuts.map(|len| (format!("cut to {len}"), whole[..len].to_vec())));
    damages.extend(places.filter_map(|at| {
        let behind = whole.get(at + 1..)?;
        Some((format!("without the byte at {at}"), [&whole[..at], behind].concat()))
    }));
    damages
}

#[test]
fn stray_and_missing_bytes_let_no_check_pass_and_fail_no_others() {
    let mut store = Store::start();
    // At a fixed time, since rows hold it: at 2 of 40 times one of these 450 strings happened to
    // spell rows of unknown kinds to its very end, as a later release could have written.
    store.server.set_clock(Micros::new(1_795_000_000_000_000));
    let [first, second, third] = [throttle("first"), quota("second"), throttle("third")];
    let all = [&first, &second, &third];
    for limit in all {
        assert!(is_allowed(&store.judge(&[check("bad", &[limit], 5)])[0]));
    }
    let whole = store.stored();
    assert_eq!(whole.len(), 5 + 35 + 19 + 35);
    let fresh = throttle("fresh");
    for (number, (why, bytes)) in damages(&whole).into_iter().enumerate() {
        store.set(&bytes);
        let [other, one, two, three, together, last] = store.judge(&[
            check(&format!("before {number}"), &all, 1),
            check("bad", &[&first], 1),
            check("bad", &[&second], 1),
            check("bad", &[&third], 1),
            check("bad", &[&fresh, &first], 1),
            check(&format!("behind {number}"), &all, 5),
        ]);
        assert!(is_allowed(&other) && is_allowed(&last), "{why}: {other:?} {last:?}");
        let damaged = [one, two, three, together];
        assert!(!damaged.iter().any(is_allowed), "{why}: {damaged:?}");
        assert_eq!(store.stored(), bytes, "{why}");
    }
}

#[test]
fn rows_of_another_format_let_no_check_of_a_batch_pass_and_stay() {
    let mut store = Store::start();
    for limit in [throttle("l"), quota("q")] {
        store.connection.del::<_, ()>(bad_key()).unwrap();
        assert!(is_allowed(&store.judge(&[check("bad", &[&limit], 1)])[0]));
        for format in [1, 3] {
            let mut bytes = store.stored();
            bytes[0] = format;
            store.set(&bytes);
            let answers = store.judge(&[1, 2].map(|cost| check("bad", &[&limit], cost)));
            assert!(answers.iter().all(is_bad_row), "{format}: {answers:?}");
            assert_eq!(store.stored(), bytes);
        }
    }
}

#[test]
fn a_check_of_a_damaged_subject_and_another_charges_neither() {
    let mut store = Store::start();
    let limit = throttle("l");
    store.set(&[9; 40]);
    let mut mixed = check("good", &[&limit], 1);
    mixed.extend(check("bad", &[&limit], 1));
    let answers = store.judge(&[
        check("good", &[&limit], 1),
        check("bad", &[&limit], 1),
        mixed,
        check("good", &[&limit], 1),
    ]);
    assert!(is_allowed(&answers[0]) && is_bad_row(&answers[1]) && is_bad_row(&answers[2]));
    let last = answers[3].as_ref().unwrap();
    assert_eq!(last.verdict.states[0].level, 3_600_000_000, "one unit: the first check's");
    assert!(!store.client.is_degraded(), "the circuit breaker stays closed");
    assert_eq!(store.stored(), [9; 40], "rows of a newer version are not changed");
}

#[test]
fn a_count_that_no_script_writes_fails_its_own_checks_and_opens_no_circuit_breaker() {
    let mut store = Store::start();
    let [rate, month] = [throttle("rate"), quota("month")];
    // The last byte of the count, behind the string's header and the row's.
    for (limit, high_bytes) in [(&rate, [32, 255]), (&month, [32, 128])] {
        store.connection.del::<_, ()>(bad_key()).unwrap();
        assert!(is_allowed(&store.judge(&[check("bad", &[limit], 1)])[0]));
        let mut bytes = store.stored();
        for high in high_bytes {
            bytes[5 + 7 + 6] = high;
            store.set(&bytes);
            let [alone] = store.judge(&[check("bad", &[limit], 1)]);
            let [good, bad] = store.judge(&[check("good", &[limit], 0), check("bad", &[limit], 1)]);
            assert!(
                is_bad_row(&alone) && is_allowed(&good) && is_bad_row(&bad),
                "{high}: {alone:?}"
            );
            assert!(!store.client.is_degraded(), "{high}");
            assert_eq!(store.stored(), bytes, "{high}");
        }
    }
}

#[test]
fn a_key_of_another_type_fails_its_checks_and_stays() {
    let mut store = Store::start();
    let limit = throttle("l");
    store.connection.rpush::<_, _, ()>(bad_key(), "not ours").unwrap();
    let [good, bad, again] = store.judge(&[
        check("good", &[&limit], 1),
        check("bad", &[&limit], 1),
        check("bad", &[&limit], 1),
    ]);
    assert!(is_allowed(&good) && is_bad_row(&bad) && is_bad_row(&again), "{bad:?} {again:?}");
    let kept: Vec<String> = store.connection.lrange(bad_key(), 0, -1).unwrap();
    assert_eq!(kept, ["not ours"]);
}

#[test]
fn one_damaged_key_hides_no_usage_of_others_and_a_reset_replaces_it() {
    let server = RedisServer::start();
    let catalog = "
version: 1
plans:
  - { id: daily, quota: { limit: 400, period: day } }
  - { id: open, throttle: { rate: 1/h, burst: 5 } }
keys:
  - { id: a, value: key-a, plans: [daily] }
  - { id: b, value: key-b, plans: [daily] }
  - { id: c, value: key-c, plans: [open] }
";
    let node = node(Some(catalog), &["--store", &server.url()]);
    for key in ["key-a", "key-b", "key-c"] {
        assert_eq!(node.check(json!({"api_key": key, "cost": 3})).status, 200);
    }
    let usage = |plan: &str| call(&node, "GET", &format!("/usageplans/{plan}/usage"), json!(null));
    let mut connection = server.connection();
    let [key_b, key_c] = ["b", "c"].map(|id| Subject::api_key(id).redis_key());
    let mut days_of_b = String::new();
    Subject::api_key("b").write_usage_key(&mut days_of_b);
    let _: () = connection.append(&key_b, "stray").unwrap();
    let _: () = connection.append(&key_c, "stray").unwrap();
    let _: () = connection.set(&days_of_b, "no days").unwrap();
    let values = &usage("daily")["values"];
    assert_eq!(values["a"].as_array().unwrap().last(), Some(&json!([3, 397])), "{values}");
    assert!(values.get("b").is_none(), "{values}");
    let of_b = as_bearer(&node, TOKEN, "GET", "/usageplans/daily/usage?keyId=b", "");
    assert!(of_b.status == 500 && of_b.body.contains("damaged"), "{of_b:?}");
    assert!(node.log().contains(&key_b), "the log names the Redis key");
    let grant = json!({"patchOperations": [{"op": "replace", "path": "/grant", "value": "5"}]});
    let path = "/usageplans/daily/keys/b/usage";
    let granted = as_bearer(&node, TOKEN, "PATCH", path, &grant.to_string());
    assert_eq!(granted.status, 500, "a grant cannot repair it: {granted:?}");
    let reset = json!({"patchOperations": [{"op": "replace", "path": "/reset", "value": "true"}]});
    for (plan, key) in [("daily", "b"), ("open", "c")] {
        call(&node, "PATCH", &format!("/usageplans/{plan}/keys/{key}/usage"), reset.clone());
        let checked = node.check(json!({"api_key": format!("key-{key}"), "cost": 5}));
        assert_eq!(checked.json()["decided_by"], "redis", "{checked:?}");
        let values = &usage(plan)["values"];
        assert_eq!(values[key].as_array().unwrap().last().unwrap()[0], 5, "{values}");
    }
}

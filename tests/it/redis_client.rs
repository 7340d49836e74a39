//! The Redis client and its script: many checks in one call, withdrawn checks, memory and expiry.
//! Needs programs besides Rust, so `make fast` skips it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use rustix::process::Signal;
use tokio::time::Instant;
use tollgate::algorithm::{Calendar, Period, Quota, Throttle};
use tollgate::limit::{
    Charge, Charges, Limit, NewReservation, ReservationName, ReservationTerms, Subject, Unit,
};
use tollgate::store::{
    CallObserver, CheckContext, Redis, RedisClient, RedisOptions, RequestContext, ReserveReply,
    ScriptCall, StoreError,
};
use tollgate::telemetry::{Metrics, TraceContext};
use tollgate::time::Micros;

use crate::support::redis::RedisServer;
use crate::twins::{DEADLINE, options};

const NONE: &CheckContext = &CheckContext::NONE;

fn limit(name: &str, rate: &str, burst: u64) -> Arc<Limit> {
    let throttle = Throttle::new(rate.parse().unwrap(), burst).unwrap();
    Arc::new(Limit::new(name, Unit::requests(), throttle, false))
}

fn one(key: &str, limit: &Arc<Limit>, cost: u64) -> Charges {
    [Charge::new(Subject::policy("p", key), Arc::clone(limit), cost)].into_iter().collect()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Runs a test with a client that has a Redis server of its own.
fn with_client<F: Future<Output = ()>>(test: impl FnOnce(Arc<RedisServer>, RedisClient) -> F) {
    with_client_and_deadline(DEADLINE, test);
}

/// Runs a test as [`with_client`] does, with this deadline.
fn with_client_and_deadline<F: Future<Output = ()>>(
    deadline: Duration,
    test: impl FnOnce(Arc<RedisServer>, RedisClient) -> F,
) {
    let server = Arc::new(RedisServer::start());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = RedisOptions { deadline, ..options(&server.url()) };
        let redis = Redis::new(&options, Arc::new(Metrics::new()), None).unwrap();
        let client = redis.open_client().await;
        test(Arc::clone(&server), client).await;
    });
}

#[test]
fn a_subject_in_many_checks_of_a_call_sees_the_earlier_charges() {
    with_client(|server, client| async move {
        let once = limit("once", "1/h", 1);
        let before = server.script_calls();
        let checks: Vec<Charges> =
            (0..100).map(|number| one(["a", "b"][number % 2], &once, 1)).collect();
        let answers = client.judge_all(&checks, NONE, soon()).await;
        let admitted =
            answers.iter().filter(|answer| answer.as_ref().unwrap().verdict.allowed).count();
        assert_eq!(admitted, 2);
        assert_eq!(server.script_calls() - before, 1, "one call carries all checks");
    });
}

#[test]
fn a_check_whose_deadline_has_passed_is_withdrawn_and_not_charged() {
    with_client(|server, client| async move {
        let limit = limit("l", "1/h", 5);
        let late = client.judge(&one("a", &limit, 3), NONE, Instant::now()).await;
        assert!(matches!(late, Err(StoreError::Overloaded)), "{late:?}");
        let peek = client.judge(&one("a", &limit, 0), NONE, soon()).await.unwrap();
        assert_eq!(peek.verdict.states[0].level, 0);
        assert!(server.script_calls() > 0);
    });
}

#[test]
fn the_circuit_breaker_opens_if_redis_hangs_however_short_each_call_is() {
    const DEADLINE: Duration = Duration::from_millis(100);
    with_client_and_deadline(DEADLINE, |server, client| async move {
        let limit = limit("l", "1/h", 5);
        let full: Vec<Charges> =
            (0..128).map(|number| one(&format!("k{number}"), &limit, 1)).collect();
        assert!(client.judge(&full[0], NONE, soon()).await.is_ok());
        server.signal(Signal::STOP);
        // A full batch every tenth of a deadline: each call but the first has a tenth of it left.
        let mut every = tokio::time::interval(DEADLINE / 10);
        let (mut calls, mut timeouts) = (tokio::task::JoinSet::new(), 0);
        let last_result = loop {
            tokio::select! {
                _ = every.tick() => {
                    let (client, full) = (client.clone(), full.clone());
                    calls.spawn(async move { client.judge_all(&full, NONE, Instant::now() + DEADLINE).await });
                }
                Some(results) = calls.join_next() => match results.unwrap().remove(0) {
                    Err(StoreError::Timeout) if timeouts < 100 => timeouts += 1,
                    other => break other,
                }
            }
        };
        assert!(
            matches!(last_result, Err(StoreError::Unreachable(_))),
            "{last_result:?} after {timeouts} timeouts"
        );
        server.signal(Signal::CONT);
    });
}

#[test]
fn a_subject_takes_little_memory() {
    with_client(|server, client| async move {
        let quota =
            Quota { limit: 1000, calendar: Arc::new(Calendar::new(Period::Day, "UTC").unwrap()) };
        let quota = Arc::new(Limit::new("q", Unit::requests(), quota, false));
        let [a, b] = [limit("a", "1/h", 5), limit("b", "1/min", 5)];
        let subject = |limits: &[&Arc<Limit>], key: &str| -> Charges {
            limits.iter().flat_map(|limit| one(key, limit, 1)).collect()
        };
        for (limits, most) in [(vec![&a], 168_u64), (vec![&a, &quota, &b], 200)] {
            let key = format!("memory{}", limits.len());
            assert!(
                client.judge(&subject(&limits, &key), NONE, soon()).await.unwrap().verdict.allowed
            );
            let name = Subject::policy("p", &key).redis_key();
            let bytes: u64 = redis::cmd("MEMORY")
                .arg("USAGE")
                .arg(name)
                .query(&mut server.connection())
                .unwrap();
            assert!(bytes <= most, "{bytes} bytes with {} limits", limits.len());
        }
    });
}

#[test]
fn every_key_expires_once_it_has_drained() {
    with_client(|server, client| async move {
        let quick = limit("quick", "10/s", 100);
        let _ = client.judge(&one("a", &quick, 100), NONE, soon()).await.unwrap();
        let key = Subject::policy("p", "a").redis_key();
        let left: i64 = redis::cmd("PTTL").arg(key).query(&mut server.connection()).unwrap();
        assert!((10_000..=10_000 + 128_000).contains(&left), "{left} ms");
    });
}

#[test]
fn a_call_with_as_many_subjects_as_possible_sees_its_own_charges() {
    with_client(|_server, client| async move {
        let limit = limit("wide", "1/h", 2);
        let wide = |check: usize| -> Charges {
            (0..250)
                .map(|part| one(&format!("{}", check * 250 + part), &limit, 1).remove(0))
                .collect()
        };
        // 64 checks of 250 subjects, each twice in the same call.
        let checks: Vec<Charges> = (0..128).map(|check| wide(check / 2)).collect();
        let answers = client.judge_all(&checks, NONE, soon()).await;
        for (check, answer) in answers.into_iter().enumerate() {
            let verdict = answer.unwrap().verdict;
            assert!(verdict.allowed, "{check}");
            let before = if check % 2 == 0 { 0 } else { limit.amount(1).cast_signed() };
            assert!(
                verdict
                    .states
                    .iter()
                    .all(|state| (before - 1_000_000..=before).contains(&state.level)
                        && (state.level > 0) == (before > 0)),
                "{check}"
            );
        }
    });
}

#[test]
fn units_leased_for_a_check_whose_caller_is_dropped_are_put_back() {
    with_client(|server, client| async move {
        // The bucket refills within milliseconds, and its burst is less than a thousand checks
        // cost.
        let throttle = Throttle::new("100000/s".parse().unwrap(), 2_000).unwrap();
        let leased = Limit::new("leased", Unit::requests(), throttle, false);
        let leased = Arc::new(leased.as_leased());
        let (one_unit, twenty) = (one("a", &leased, 1), one("a", &leased, 20));
        let both: Charges =
            twenty.iter().cloned().chain(one("b", &limit("l", "1/h", 5), 0)).collect();
        for attempt in 0.. {
            let mut in_a_row = 0;
            while in_a_row < 300 {
                let answer = client.judge(&one_unit, NONE, soon()).await.unwrap();
                in_a_row = if answer.leased { in_a_row + 1 } else { 0 };
                tokio::task::yield_now().await;
            }
            server.signal(Signal::STOP);
            for _ in 0..1_000 {
                let _dropped = client.judge(&both, NONE, soon()).now_or_never();
            }
            let spent = client.judge(&twenty, NONE, soon()).now_or_never();
            server.signal(Signal::CONT);
            // If this machine stood still for a lease's lifetime, the lease has expired: try again.
            if spent.is_some_and(|answer| answer.is_ok_and(|answer| answer.leased)) {
                break;
            }
            assert!(attempt < 20, "a thousand dropped checks have used up a lease");
        }
    });
}

/// The thousands of units that leases cover.
fn held_thousands(client: &RedisClient, thousand: &Charges) -> usize {
    let hold = || Some(client.hold_leases(thousand)).filter(|held| !held.is_empty());
    // All of them are held until the last one is counted.
    std::iter::successors(hold(), |_| hold()).collect::<Vec<_>>().len()
}

fn new_reservation(number: u64) -> NewReservation {
    let mut name = [0; 16];
    name[..8].copy_from_slice(&number.to_le_bytes());
    let terms = ReservationTerms::new(&name).unwrap();
    let (name, ttl) = (ReservationName::from_bytes(name), Micros::from_secs(60));
    NewReservation { name, check: [0; 8], ttl, terms }
}

/// Ends of an attempt to reserve.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ReserveEnd {
    Opened,
    Refused,
    OpenAlready,
    TimedOut,
    CallerGone,
    NotSent,
}

/// Tries to reserve, as said, and returns true if the attempt came to that end.
async fn try_to_reserve(
    client: &RedisClient,
    end: ReserveEnd,
    number: u64,
    unit: &Charges,
) -> bool {
    let charges: Charges = if end == ReserveEnd::Refused {
        unit.iter().cloned().chain(one("a", &limit("l", "1/h", 1), 2)).collect()
    } else {
        unit.clone()
    };
    let new = new_reservation(if end == ReserveEnd::OpenAlready { 0 } else { number });
    let held = client.hold_leases(&charges);
    let reply = match end {
        ReserveEnd::NotSent => return true,
        ReserveEnd::CallerGone => {
            return client.reserve(&charges, &new, held, NONE, soon()).now_or_never().is_none();
        }
        ReserveEnd::TimedOut => {
            let deadline = Instant::now() + Duration::from_millis(10);
            return client.reserve(&charges, &new, held, NONE, deadline).await.is_err();
        }
        _ => client.reserve(&charges, &new, held, NONE, soon()).await.unwrap(),
    };
    match reply {
        ReserveReply::Judged(verdict) => {
            end == if verdict.verdict.allowed { ReserveEnd::Opened } else { ReserveEnd::Refused }
        }
        ReserveReply::Replayed(..) => end == ReserveEnd::OpenAlready,
        ReserveReply::Conflict => false,
    }
}

#[test]
fn units_of_a_lease_are_spent_once_their_reservation_may_be_open_and_else_put_back() {
    with_client(|server, client| async move {
        let throttle = Throttle::new("1000/s".parse().unwrap(), 100_000_000).unwrap();
        let leased = Arc::new(Limit::new("l", Unit::requests(), throttle, false).as_leased());
        let (thousand, ten) = (one("a", &leased, 1_000), one("a", &leased, 10_000));
        assert!(try_to_reserve(&client, ReserveEnd::Opened, 0, &ten).await);
        let mut number = 0;
        for (end, spent) in [
            (ReserveEnd::Opened, 10),
            (ReserveEnd::Refused, 0),
            (ReserveEnd::OpenAlready, 0),
            (ReserveEnd::TimedOut, 10),
            (ReserveEnd::CallerGone, 10),
            (ReserveEnd::NotSent, 0),
        ] {
            let is_stopped = matches!(end, ReserveEnd::TimedOut | ReserveEnd::CallerGone);
            for attempt in 0.. {
                while held_thousands(&client, &thousand) < 20 {
                    client.judge(&thousand, NONE, soon()).await.unwrap();
                    tokio::task::yield_now().await;
                }
                let before = held_thousands(&client, &thousand);
                number += 1;
                if is_stopped {
                    server.signal(Signal::STOP);
                }
                assert!(try_to_reserve(&client, end, number, &ten).await, "{end:?}");
                let after = held_thousands(&client, &thousand);
                server.signal(Signal::CONT);
                // If this machine stood still for a lease's lifetime, the lease has expired: try
                // again.
                if before - before.min(after) == spent {
                    break;
                }
                assert!(attempt < 20, "{end:?}: {after} thousand of {before} are left");
            }
        }
    });
}

/// The span ids of the checks that each call carried.
#[derive(Default)]
struct ObservedCalls(Mutex<Vec<Vec<u8>>>);

impl CallObserver for ObservedCalls {
    fn on_call(&self, call: &ScriptCall<'_>) {
        let spans = call
            .contexts
            .iter()
            .map(|context| context.trace().map_or(0, |trace| trace.span_id[7]))
            .collect();
        assert!(call.duration > Duration::ZERO);
        self.0.lock().unwrap().push(spans);
    }
}

#[test]
fn an_observer_learns_which_checks_went_in_the_same_call() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let calls = Arc::new(ObservedCalls::default());
    runtime.block_on(async {
        let observer = Some(Arc::clone(&calls) as _);
        let metrics = Arc::new(Metrics::new());
        let redis = Redis::new(&options(&server.url()), metrics, observer).unwrap();
        let client = redis.open_client().await;
        let limit = limit("observed", "1/h", 10);
        let judge = async |span| {
            let span_id = [0, 0, 0, 0, 0, 0, 0, span];
            let trace = TraceContext { trace_id: [1; 16], span_id, is_sampled: true };
            let request = RequestContext { trace: Some(trace), ..RequestContext::default() };
            let context = CheckContext::new(request);
            client.judge(&one("a", &limit, 1), &context, soon()).await.unwrap();
        };
        judge(1).await;
        // More than leave alone.
        tokio::join!(judge(2), judge(3), judge(4), judge(5), judge(6));
        let batch = [one("a", &limit, 1), one("b", &limit, 1)];
        client.judge_all(&batch, NONE, soon()).await;
    });
    assert_eq!(*calls.0.lock().unwrap(), [vec![1], vec![2, 3, 4, 5, 6], vec![0, 0]]);
}

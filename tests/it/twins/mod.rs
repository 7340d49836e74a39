//! R4: Rust, Lua and the Redis module decide alike, bit for bit, on random histories with a real Redis
//! (and R3, R5).
//!
//! Each step sets Redis' clock. A step's checks go in one call, subjects and limits
//! repeat, limits change between steps, and the clock goes forward and back.
//! Needs programs besides Rust, so `make fast` skips it.

mod crowded;
mod damage;
mod dry_runs;
mod foreign_rows;
mod history;
mod model;
mod plan;
mod reservations;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prop_assert_eq;
use proptest::strategy::Strategy;
use proptest::test_runner::{
    Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestRng, TestRunner,
};
use tokio::time::Instant;
use tollgate::judge::reservation::Reserved;
use tollgate::limit::{Charges, USAGE_RETENTION_DAYS};
use tollgate::store::{
    CheckContext, CounterStore, CounterUsage, Redis, RedisClient, RedisOptions, StoreError,
};
use tollgate::telemetry::Metrics;
use tollgate::time::Micros;

use crate::support::redis::RedisServer;
use crowded::{histories_of_marks, histories_of_slots};
use damage::damage;
use dry_runs::{as_shown, digest, dry_run};
use foreign_rows::ForeignRows;
use history::{HistoryStep, World, histories};
use model::Model;
use reservations::{Reservations, compare_annexes};

const HISTORIES: u32 = 450;
const CROWDED_HISTORIES: u32 = 100;
const STEPS: usize = 100;
const HISTORIES_OF_SLOTS: u32 = 200;
/// Those that are replayed by the script and by the module.
const HISTORIES_OF_BOTH: u32 = 80;
const HISTORIES_OF_DAMAGE: u32 = 150;
const STEPS_BEFORE_DAMAGE: usize = 12;
const STEPS_OF_SLOTS: usize = 30;

/// Deadline of a check: long, since CI machines are slow.
pub const DEADLINE: Duration = Duration::from_secs(10);

pub fn options(url: &str) -> RedisOptions {
    RedisOptions {
        url: url.parse().unwrap(),
        ca_file: None,
        deadline: DEADLINE,
        min_nodes: 1,
        leases: true,
        repeats_refusals: true,
        start_without_store: false,
        runtime: tokio::runtime::Handle::current(),
    }
}

#[test]
fn rust_and_lua_decide_alike_on_random_histories() {
    let (steps, refused) = run(HISTORIES, histories(STEPS), vec![RedisServer::start_with_clock()]);
    assert!(steps >= 20_000, "only {steps} steps");
    assert!(refused >= 100, "only {refused} checks had a new subject in a full store");
}

#[test]
fn rust_and_lua_keep_the_same_marks_on_crowded_histories() {
    let server = RedisServer::start_with_clock();
    let (steps, _) = run(CROWDED_HISTORIES, histories_of_marks(STEPS), vec![server]);
    assert!(steps >= 3_000, "only {steps} steps");
}

#[test]
fn rust_and_lua_hold_the_same_slots_on_histories_of_slots() {
    let server = RedisServer::start_with_clock();
    let (steps, _) = run(HISTORIES_OF_SLOTS, histories_of_slots(STEPS_OF_SLOTS), vec![server]);
    assert!(steps >= 2_000, "only {steps} steps");
}

/// The module decides as the reference, and leaves the same bytes and expiries as the script; also in
/// turn with a fleet that uses the script on the same server.
#[test]
fn the_module_decides_like_rust_and_stores_what_lua_stores() {
    let servers = || vec![RedisServer::start_with_clock(), RedisServer::start_with_module()];
    let (steps, refused) = run(HISTORIES_OF_BOTH, histories(STEPS), servers());
    assert!(steps >= 3_000 && refused >= 10, "only {steps} steps, {refused} refused");
    let (steps, _) = run(HISTORIES_OF_BOTH / 2, histories_of_marks(STEPS), servers());
    assert!(steps >= 1_000, "only {steps} steps of marks");
    let (steps, _) = run(HISTORIES_OF_BOTH / 2, histories_of_slots(STEPS_OF_SLOTS), servers());
    assert!(steps >= 400, "only {steps} steps of slots");
}

/// After damage of stored strings, checks and reservations are answered alike, and nothing else is
/// stored.
#[test]
fn the_module_answers_for_damaged_strings_as_lua_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let servers = [RedisServer::start_with_clock(), RedisServer::start_with_module()];
    let sides = servers.map(|server| Side::new(server, &runtime));
    let damaged_answers = Cell::new(0);
    let histories = (histories(STEPS_BEFORE_DAMAGE), vec(damage(), 1..4));
    // Always the same: a damage that nobody has met yet should not fail another change's tests.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config(HISTORIES_OF_DAMAGE), rng);
    let result = runner.run(&histories, |(steps, damages)| {
        let _guard = runtime.enter();
        let (last, steps) = steps.split_last().unwrap();
        let mut answers = Vec::new();
        for side in &sides {
            let replayed = runtime.block_on(replay(side, steps, false))?;
            for damage in &damages {
                damage.apply(&mut side.server.connection());
            }
            answers.push(runtime.block_on(damage::answers(side, replayed, last)));
        }
        let damaged = answers[0].iter().filter(|answer| *answer == damage::DAMAGED).count();
        damaged_answers.set(damaged_answers.get() + damaged);
        prop_assert_eq!(&answers[0], &answers[1], "left is Lua, after {:?}", damages);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let damaged = damaged_answers.get();
    assert!(damaged >= 100, "only {damaged} checks have met damage");
}

/// A server on which histories are replayed, and the fleets on it, which take the steps in turn.
struct Side {
    server: RedisServer,
    fleets: Vec<Fleet>,
}

/// Nodes that share a store.
struct Fleet {
    client: RedisClient,
    counters: CounterStore,
}

impl Side {
    /// A server with the module has a fleet that uses it, and one that uses the script.
    fn new(server: RedisServer, runtime: &tokio::runtime::Runtime) -> Self {
        server.set_clock(history::START);
        let mut urls = vec![server.url()];
        if server.has_module() {
            urls.push(server.url_without_module());
        }
        let fleet = |url: &String| {
            let redis = Redis::new(&options(url), Arc::new(Metrics::new()), None).unwrap();
            let client = runtime.block_on(redis.open_client());
            Fleet { client, counters: CounterStore::Redis(redis) }
        };
        let fleets = urls.iter().map(fleet).collect();
        Self { server, fleets }
    }
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(config(cases))
}

fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/it/twins/regressions.txt",
        ))),
        max_shrink_iters: 2_000,
        ..Config::default()
    }
}

/// Runs random histories on each of the servers, which have to store the same, and returns the
/// numbers of their steps and of the checks that a full store refused.
fn run(
    cases: u32,
    histories: impl Strategy<Value = Vec<HistoryStep>>,
    servers: Vec<RedisServer>,
) -> (usize, usize) {
    let (steps_done, refused) = (Cell::new(0), Cell::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let sides: Vec<Side> = servers.into_iter().map(|server| Side::new(server, &runtime)).collect();
    let result = runner(cases).run(&histories, |steps| {
        steps_done.set(steps_done.get() + steps.len());
        let _guard = runtime.enter();
        let mut stored = Vec::new();
        for side in &sides {
            let replayed = runtime.block_on(replay(side, &steps, sides.len() > 1))?;
            refused.set(refused.get() + replayed.refused);
            stored.push(replayed.digests);
        }
        for digests in &stored {
            let other = digests.iter().zip(&stored[0]).position(|(one, other)| one != other);
            prop_assert_eq!(other, None, "the servers store different bytes from this step on");
        }
        Ok(())
    });
    for side in sides.iter().filter(|side| side.server.has_module()) {
        assert!(side.server.module_calls() >= steps_done.get() as u64, "not by the module");
    }
    if let Err(failure) = result {
        panic!("{failure}");
    }
    (steps_done.get(), refused.get())
}

/// Lets the script charge new subjects of open-ended limits, or not.
fn take_new_subjects(counters: &CounterStore, takes: bool) {
    let CounterStore::Redis(redis) = counters else { panic!("the store is Redis") };
    redis.take_new_subjects(takes);
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn store_failure(error: StoreError) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// The usage without expired days. The script drops those with any write of the same string, the
/// reference with a write of the same counter.
fn without_expired_days(mut usage: CounterUsage, newest: Micros) -> CounterUsage {
    let oldest = (newest.get() / 86_400_000_000 + 1).saturating_sub(USAGE_RETENTION_DAYS);
    usage.days.past.retain(|day| day.day >= oldest);
    usage
}

/// The end of a history.
struct Replayed {
    /// The number of checks with a subject that a full store refused.
    refused: usize,
    /// For each step a digest of all that is stored, if wanted.
    digests: Vec<String>,
    world: World,
    reservations: Reservations,
}

/// Replays a history.
async fn replay(
    side: &Side,
    steps: &[HistoryStep],
    with_digests: bool,
) -> Result<Replayed, TestCaseError> {
    let server = &side.server;
    let mut digests = Vec::new();
    let mut connection = server.connection();
    let _: () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
    let mut world = World::default();
    let (mut model, mut newest) = (Model::default(), Micros::ZERO);
    let (mut foreign, mut reservations) = (ForeignRows::default(), Reservations::default());
    let mut refused_subjects = 0;
    for (number, step) in steps.iter().enumerate() {
        let Fleet { client, counters } = &side.fleets[number % side.fleets.len()];
        let now = world.advance(step);
        server.set_clock(now);
        // A scan over all keys makes Redis forget what has expired by now.
        let mut scan = redis::cmd("SCAN");
        let _: (u64, Vec<String>) =
            scan.arg(0).arg("COUNT").arg(1_000_000).query(&mut connection).unwrap();
        unharmed(&mut foreign, number, &mut connection)?;
        model.expire(now);
        let deadline = Instant::now() + Duration::from_secs(10);
        // The node learns the clock first: a check that is sent twice would be judged later.
        let peeked = client.judge(&Charges::new(), &CheckContext::NONE, deadline).await;
        let _: u64 = peeked.map_err(store_failure)?.index;
        let refunds = world.refunds(step);
        for refund in &refunds {
            model.refund(refund, now);
        }
        client.refund(refunds, deadline).await.map_err(store_failure)?;
        model.end_of_call(now);
        let (peeks, corrections) = world.corrections(step);
        if !corrections.is_empty() {
            model.correct(&peeks, &corrections, now);
            counters.correct(&peeks, &corrections).await.map_err(store_failure)?;
        }
        if let Some(planting) = step.planting {
            let subject = World::subjects().nth(planting.0).unwrap();
            foreign.plant(subject, planting, &mut connection);
        }
        let checks = world.checks(step);
        take_new_subjects(counters, !step.is_full);
        model.is_full = step.is_full;
        let mut dry = Vec::new();
        for check in &checks {
            dry.push(
                dry_run(check, None, &model, client, now, deadline, &mut connection)
                    .await
                    .map_err(|why| TestCaseError::fail(format!("step {number}: {why}")))?,
            );
        }
        let answers = client.judge_all(&checks, &CheckContext::NONE, deadline).await;
        take_new_subjects(counters, true);
        let references = model.judge_all(&checks, now);
        model.is_full = false;
        for (index, ((charges, answer), reference)) in
            checks.iter().zip(answers).zip(references).enumerate()
        {
            let lua = match answer {
                Err(StoreError::NewSubject(subject)) => Err(*subject),
                answer => Ok(answer.map_err(store_failure)?.verdict),
            };
            if lua != reference {
                let why = format!(
                    "step {number}, check {index}: {charges:#?}\nRust: {reference:?}\nLua:  {lua:?}"
                );
                return Err(TestCaseError::fail(why));
            }
            // The others are judged behind it.
            let is_comparable = checks.len() == 1 && !world.has_changed_limits;
            let judged = reference.clone().map(|verdict| as_shown(&Reserved::Judged(verdict)));
            if is_comparable && dry[index].clone().map(|dry| as_shown(&dry)) != judged {
                let why = format!("step {number}: dry {:?}, then {reference:?}", dry[index]);
                return Err(TestCaseError::fail(why));
            }
            match reference {
                Ok(reference) if reference.allowed => world.record(charges, &reference),
                Ok(_) => {}
                Err(_) => refused_subjects += 1,
            }
        }
        let operations = &step.reservations;
        reservations
            .run(operations, &world, &mut model, client, deadline, &mut connection)
            .await
            .map_err(|why| TestCaseError::fail(format!("step {number}: {why}")))?;
        compare_annexes(&model, &mut connection)
            .map_err(|why| TestCaseError::fail(format!("step {number}: {why}")))?;
        unharmed(&mut foreign, number, &mut connection)?;
        if with_digests {
            digests.push(digest(&mut connection));
        }
        newest = newest.max(now);
        let kept = world.tracked();
        let (_, usage) = counters.usage(&kept).await.map_err(store_failure)?;
        let usage = usage.into_iter().collect::<Result<Vec<_>, _>>().map_err(store_failure)?;
        for (peek, usage) in kept.iter().zip(usage) {
            let (usage, reference) = (
                without_expired_days(usage, newest),
                without_expired_days(model.usage(peek), newest),
            );
            if usage != reference {
                let why = format!("step {number}: {peek:#?}\nRust: {reference:?}\nLua:  {usage:?}");
                return Err(TestCaseError::fail(why));
            }
        }
    }
    Ok(Replayed { refused: refused_subjects, digests, world, reservations })
}

fn unharmed(
    foreign: &mut ForeignRows,
    step: usize,
    redis: &mut redis::Connection,
) -> Result<(), TestCaseError> {
    let checked = foreign.check(World::subjects(), redis);
    checked.map_err(|why| TestCaseError::fail(format!("step {step}: {why}")))
}

//! One commit: the script calls that a connection task sends together, and their outcomes.
//!
//! All calls go in one pipeline. Checks that were not judged because of a window miss or a day
//! rollover are sent once more, unless their deadline has passed. Checks are divided into calls,
//! and results sent to jobs, in `grouping`. The time until which a caller waits is enforced in
//! `call_in_flight`.

use std::time::Duration;

use redis::RedisError;
use tokio::time::Instant;

use super::grouping::{CallGroup, GroupOutcome, GroupedCheck, missing_reply};
use super::job::{CallError, CheckResult, Operation, QueuedCheck};
use crate::judge::reservation::Adjusted;
use crate::store::redis::call::CheckCall;
use crate::store::redis::connection::Commands;
use crate::store::redis::redirect::Redirect;
use crate::store::redis::reply::{CheckReply, ReplyDecoder};
use crate::store::redis::script::{self, Script, ScriptArgs, ScriptReply};
use crate::store::redis::usage::UsageCall;
use crate::store::redis::{Redis, StoreError, errors, instance::RedisInstance};
use crate::store::{AdjustReply, AdjustedReservation, ReserveReply, ScriptCall, StoreVerdict};
use crate::time::Micros;

/// The outcomes of all groups.
pub(super) struct CommitOutcome {
    /// The outcome of each group, in order.
    pub(super) outcomes: Vec<GroupOutcome>,
    /// The errors of calls that failed as a whole. If the connection broke or timed out, all calls
    /// of its pipeline have the same error.
    pub(super) failures: Vec<CallError>,
    /// The time until the first reply; `None` if there was none.
    pub(super) round_trip: Option<Duration>,
}

/// The outcome of one script call, in which some checks may have to be sent again.
type CallOutcome = Result<Vec<Result<CheckResult, NoVerdict>>, CallError>;

/// The reason why a check has no verdict although its call succeeded.
pub(super) enum NoVerdict {
    /// Redis' clock lies outside the calendar windows that were sent.
    WindowMiss,
    /// A day's usage must be stored before the check overwrites its counter.
    DayRollover,
    /// The check itself failed.
    Failed(CallError),
}

/// Sends all groups together, and then once more those checks that had a window miss or a day
/// rollover. Redis' clock is known by then, and the days have been stored. No job waits after
/// `until`.
pub(super) async fn run(
    redis: &Redis,
    server: &RedisInstance,
    groups: &[CallGroup<'_>],
    until: Instant,
    commands: &Commands,
) -> CommitOutcome {
    let mut failures = Vec::new();
    let began = Instant::now();
    let called = call_check_script(redis, server, groups, until, commands).await;
    let now = Instant::now();
    let round_trip = called.is_ok().then(|| now - began);
    let mut outcomes = record_failures(called, groups.len(), &mut failures);
    let (mut again, mut positions) = (Vec::new(), Vec::new());
    for (position, (group, outcome)) in groups.iter().zip(&outcomes).enumerate() {
        let Ok(results) = outcome else { continue };
        let open = |index: &usize| {
            matches!(results[*index], Err(NoVerdict::WindowMiss | NoVerdict::DayRollover))
                && group.checks[*index].deadline > now
        };
        let within: Vec<usize> = (0..results.len()).filter(open).collect();
        if !within.is_empty() {
            let checks = within.iter().map(|&index| group.checks[index]).collect();
            again.push(CallGroup { checks, refunds: Vec::new(), is_asking: group.is_asking });
            positions.push((position, within));
        }
    }
    if !again.is_empty() {
        // Boxed, because the futures of all calls keep a place for it until their end.
        let later = Box::pin(retry_unjudged(redis, server, again, until, commands)).await;
        let later = record_failures(later, positions.len(), &mut failures);
        for ((position, within), later) in positions.into_iter().zip(later) {
            let Ok(results) = &mut outcomes[position] else { continue };
            // Verdicts of the first call stay, even if the second call fails.
            let mut later = later.map(Vec::into_iter);
            for index in within {
                results[index] = match &mut later {
                    Ok(later) => later.next().unwrap_or(Err(NoVerdict::WindowMiss)),
                    Err(error) => Err(NoVerdict::Failed(error.clone())),
                };
            }
        }
    }
    let outcomes = outcomes.into_iter().map(final_outcome).collect();
    CommitOutcome { outcomes, failures, round_trip }
}

/// The outcomes of `groups` calls. Adds the errors of those that failed to `failures`.
fn record_failures(
    outcomes: Result<Vec<CallOutcome>, StoreError>,
    groups: usize,
    failures: &mut Vec<CallError>,
) -> Vec<CallOutcome> {
    match outcomes {
        Ok(outcomes) => {
            failures.extend(outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).cloned());
            outcomes
        }
        Err(error) => {
            let failed = CallError::Failed(error);
            failures.push(failed.clone());
            (0..groups).map(|_| Err(failed.clone())).collect()
        }
    }
}

/// Stores the days that are over and sends the checks again. Groups whose days cannot be stored are
/// not sent.
async fn retry_unjudged(
    redis: &Redis,
    server: &RedisInstance,
    groups: Vec<CallGroup<'_>>,
    until: Instant,
    commands: &Commands,
) -> Result<Vec<CallOutcome>, StoreError> {
    let rollover_errors = roll_over_days(redis, server, &groups, until, commands).await?;
    let rolled_over = groups.into_iter().zip(&rollover_errors).filter(|(_, why)| why.is_none());
    let rolled_over: Vec<CallGroup<'_>> = rolled_over.map(|(group, _)| group).collect();
    if rolled_over.is_empty() {
        return Ok(rollover_errors.into_iter().flatten().map(Err).collect());
    }
    let mut judged =
        call_check_script(redis, server, &rolled_over, until, commands).await?.into_iter();
    let outcome = |why: Option<CallError>| match why {
        Some(why) => Err(why),
        None => judged.next().unwrap_or_else(|| Err(missing_reply())),
    };
    Ok(rollover_errors.into_iter().map(outcome).collect())
}

/// Stores the usage of days that are over. Returns for each group the error, if that failed.
async fn roll_over_days(
    redis: &Redis,
    server: &RedisInstance,
    groups: &[CallGroup<'_>],
    until: Instant,
    commands: &Commands,
) -> Result<Vec<Option<CallError>>, StoreError> {
    let now = redis.clock.now();
    let (mut calls, mut positions) = (Vec::new(), Vec::new());
    for (position, group) in groups.iter().enumerate() {
        let written = group.checks.iter().filter(|grouped| grouped.check.may_roll_over());
        let charges: Vec<_> = written.map(|grouped| &grouped.check.charges).collect();
        let days = UsageCall::for_day_rollover(&charges, now);
        if !days.is_empty() {
            calls.push((days, group.is_asking));
            positions.push(position);
        }
    }
    let mut rollover_errors = vec![None; groups.len()];
    if !calls.is_empty() {
        let replies = call_script(&script::USAGE_SCRIPT, &calls, until, commands).await?;
        for (position, reply) in positions.into_iter().zip(replies) {
            rollover_errors[position] = reply.err().map(|error| call_error(server, &error));
        }
    }
    Ok(rollover_errors)
}

/// Runs a script once for each of `calls`, in one pipeline, and returns a reply for each.
async fn call_script<A: ScriptArgs>(
    script: &Script,
    calls: &[(A, bool)],
    until: Instant,
    commands: &Commands,
) -> Result<Vec<ScriptReply>, StoreError> {
    let replies = script.run_pipelined(calls, until, commands).await;
    let replies = replies.map_err(|error| errors::classify(&error))?;
    if replies.len() != calls.len() {
        return Err(StoreError::BadReply("there are not as many replies as calls".into()));
    }
    Ok(replies)
}

async fn call_check_script(
    redis: &Redis,
    server: &RedisInstance,
    groups: &[CallGroup<'_>],
    until: Instant,
    commands: &Commands,
) -> Result<Vec<CallOutcome>, StoreError> {
    let offered_for = redis.clock.now();
    let calls: Vec<(CheckCall, bool)> = groups
        .iter()
        .map(|group| {
            let (is_sharded, refuses_new) = (redis.topology.is_sharded(), server.is_nearly_full());
            let mut call = CheckCall::new(is_sharded, refuses_new);
            group
                .checks
                .iter()
                .for_each(|grouped| add_to_call(&mut call, grouped.check, offered_for));
            group.refunds.iter().for_each(|refund| call.add_refund(refund, offered_for));
            (call, group.is_asking)
        })
        .collect();
    let began = Instant::now();
    let replies = call_script(&script::CHECK_SCRIPT, &calls, until, commands).await;
    let duration = began.elapsed();
    redis.metrics.store_duration.observe(duration.as_secs_f64());
    let by = if commands.has_module() { "module" } else { "script" };
    redis.metrics.store_calls.with_label_values(&[by]).inc_by(calls.len() as u64);
    let checks: usize = groups.iter().map(|group| group.checks.len()).sum();
    #[expect(clippy::cast_precision_loss, reason = "a count for a histogram")]
    redis.metrics.store_batch.observe(checks as f64);
    if let Some(observer) = &redis.call_observer {
        for group in groups {
            let contexts: Vec<_> =
                group.checks.iter().map(|grouped| grouped.check.context.clone()).collect();
            observer.on_call(&ScriptCall { contexts: &contexts, duration });
        }
    }
    Ok(groups
        .iter()
        .zip(replies?)
        .map(|(group, reply)| decode_reply(redis, server, group, reply))
        .collect())
}

fn add_to_call(call: &mut CheckCall, check: &QueuedCheck, now: Micros) {
    match check.operation.as_deref() {
        None => call.add_check(&check.charges, now),
        Some(Operation::Reserve(new)) => call.add_reserve(&check.charges, new, now),
        Some(Operation::Adjust(adjustment)) => call.add_adjustment(adjustment, now),
        Some(Operation::DryRun(new)) => call.add_dry_run(&check.charges, new.as_ref(), now),
    }
}

/// The outcome of one check, which is at `index` in its call.
fn decode_result(
    decoder: &mut ReplyDecoder,
    check: &QueuedCheck,
    index: u64,
) -> Result<CheckReply<CheckResult>, StoreError> {
    let now = decoder.now;
    let judged = |verdict| StoreVerdict { verdict, index, leased: false };
    Ok(match check.operation.as_deref() {
        None => {
            decoder.next_check(&check.charges)?.map(|verdict| CheckResult::Verdict(judged(verdict)))
        }
        Some(Operation::Reserve(_) | Operation::DryRun(_)) => decoder
            .next_reserve(&check.charges)?
            .map(|reserved| CheckResult::Reserved(Box::new(ReserveReply::new(reserved, index)))),
        Some(Operation::Adjust(adjustment)) => {
            decoder.next_adjustment(adjustment)?.map(|adjusted| {
                CheckResult::Adjusted(Box::new(match adjusted {
                    Adjusted::Unknown => AdjustReply::Unknown,
                    Adjusted::Done { is_late, charges } => {
                        AdjustReply::Adjusted(AdjustedReservation { now, index, is_late, charges })
                    }
                }))
            })
        }
    })
}

fn decode_reply(
    redis: &Redis,
    server: &RedisInstance,
    group: &CallGroup<'_>,
    reply: ScriptReply,
) -> CallOutcome {
    let value = reply.map_err(|error| call_error(server, &error))?;
    let mut decoder = ReplyDecoder::new(value).map_err(CallError::Failed)?;
    redis.clock.observe(decoder.now);
    let mut results = Vec::with_capacity(group.checks.len());
    for (index, &GroupedCheck { check, .. }) in (0..).zip(&group.checks) {
        let outcome = decode_result(&mut decoder, check, index).map_err(CallError::Failed)?;
        results.push(match outcome {
            CheckReply::Done(result) => Ok(result),
            CheckReply::WindowMiss => Err(NoVerdict::WindowMiss),
            CheckReply::DayRollover => Err(NoVerdict::DayRollover),
            CheckReply::NewSubject(charge) => Err(NoVerdict::Failed(new_subject(check, charge))),
            CheckReply::BadRow(why) => {
                redis.log_bad_row(&check.redis_keys(), &why);
                Err(NoVerdict::Failed(CallError::Failed(StoreError::BadRow(why))))
            }
        });
    }
    Ok(results)
}

/// The error of a check with a subject that is new to a server which is nearly full.
fn new_subject(check: &QueuedCheck, charge: usize) -> CallError {
    CallError::Failed(match check.charges.get(charge) {
        Some(charge) => StoreError::NewSubject(charge.subject.into()),
        None => StoreError::BadReply("a check has no charge of this number".into()),
    })
}

/// The call error for an error reply of `server`.
fn call_error(server: &RedisInstance, error: &RedisError) -> CallError {
    match Redirect::from_error(error, server.host()) {
        Some(redirect) => CallError::Redirected(redirect),
        None => CallError::Failed(errors::classify(error)),
    }
}

/// The outcome to send to jobs, after the last retry.
fn final_outcome(outcome: CallOutcome) -> GroupOutcome {
    outcome.map(|results| results.into_iter().map(final_result).collect())
}

fn final_result(result: Result<CheckResult, NoVerdict>) -> Result<CheckResult, CallError> {
    result.map_err(|reason| match reason {
        NoVerdict::Failed(error) => error,
        NoVerdict::WindowMiss => CallError::Failed(StoreError::BadReply(
            "Redis' clock left the calendar windows twice during one check".into(),
        )),
        NoVerdict::DayRollover => {
            CallError::Failed(StoreError::BadRow("the usage of past days cannot be stored".into()))
        }
    })
}

//! One commit: what a task sends together, and what becomes of each check in it.
//!
//! All groups go in one pipeline, and what was not judged for want of a window or of a kept day goes
//! once more. Which checks make a group is for `grouping` to say.

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, timeout_at};

use super::grouping::CallGroup;
use super::job::{CallError, Job, JobResults};
use crate::store::StoreVerdict;
use crate::store::redis::call::CheckCall;
use crate::store::redis::redirect::Redirect;
use crate::store::redis::reply::{CheckReply, ReplyDecoder};
use crate::store::redis::script::{self, Script, ScriptArgs, ScriptReply};
use crate::store::redis::usage::UsageCall;
use crate::store::redis::{Redis, StoreError, errors, instance::RedisInstance};

/// What became of one script call: of each of its checks, or of none.
pub(super) type GroupOutcome = Result<Vec<Result<StoreVerdict, NoVerdict>>, CallError>;

/// What became of all groups.
pub(super) struct CommitOutcome {
    /// Of each.
    pub(super) outcomes: Vec<GroupOutcome>,
    /// Why calls came to nothing: all of one pipeline for the same reason where the connection is of
    /// no more use, or too slow.
    pub(super) failures: Vec<CallError>,
}

/// Why a check of a call that succeeded has no verdict.
pub(super) enum NoVerdict {
    /// Redis' clock lies outside the windows that were offered.
    WindowMiss,
    /// It would write over a day that has to be kept first.
    DayRollover,
    /// It has its own reason.
    Failed(CallError),
}

/// Sends all groups together and, once, those checks again whose windows did not hold Redis' clock,
/// which has been read then, or that met days to be kept first.
pub(super) async fn run(
    redis: &Redis,
    server: &RedisInstance,
    groups: &[CallGroup<'_>],
    deadline: Instant,
    connection: &mut MultiplexedConnection,
) -> CommitOutcome {
    let mut committed = CommitOutcome { outcomes: Vec::new(), failures: Vec::new() };
    let called = call_check_script(redis, server, groups, deadline, connection).await;
    committed.outcomes = committed.record(called, groups.len());
    let (mut again, mut positions) = (Vec::new(), Vec::new());
    for (position, (group, outcome)) in groups.iter().zip(&committed.outcomes).enumerate() {
        let Ok(results) = outcome else { continue };
        let open = |index: &usize| {
            matches!(results[*index], Err(NoVerdict::WindowMiss | NoVerdict::DayRollover))
        };
        let within: Vec<usize> = (0..results.len()).filter(open).collect();
        if !within.is_empty() {
            let checks = within.iter().map(|&index| group.checks[index]).collect();
            again.push(CallGroup { checks, refunds: Vec::new(), is_asking: group.is_asking });
            positions.push((position, within));
        }
    }
    if again.is_empty() {
        return committed;
    }
    let later = retry_unjudged(redis, server, again, deadline, connection).await;
    let later = committed.record(later, positions.len());
    for ((position, within), later) in positions.into_iter().zip(later) {
        let Ok(results) = &mut committed.outcomes[position] else { continue };
        // What was judged the first time stays judged, whatever became of these.
        let mut later = later.map(Vec::into_iter);
        for index in within {
            results[index] = match &mut later {
                Ok(later) => later.next().unwrap_or(Err(NoVerdict::WindowMiss)),
                Err(error) => Err(NoVerdict::Failed(error.clone())),
            };
        }
    }
    committed
}

impl CommitOutcome {
    /// Whether a call had no answer in time.
    pub(super) fn has_timed_out(&self) -> bool {
        self.failures.iter().any(|why| matches!(why, CallError::Failed(StoreError::Timeout)))
    }

    /// The outcomes of so many groups; remembers why any of them failed.
    fn record(
        &mut self,
        outcomes: Result<Vec<GroupOutcome>, StoreError>,
        groups: usize,
    ) -> Vec<GroupOutcome> {
        match outcomes {
            Ok(outcomes) => {
                let failed = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
                self.failures.extend(failed.cloned());
                outcomes
            }
            Err(error) => {
                let failed = CallError::Failed(error);
                self.failures.push(failed.clone());
                (0..groups).map(|_| Err(failed.clone())).collect()
            }
        }
    }
}

/// Keeps the days that are over, then asks once more. Where they cannot be kept nothing is asked.
async fn retry_unjudged(
    redis: &Redis,
    server: &RedisInstance,
    groups: Vec<CallGroup<'_>>,
    deadline: Instant,
    connection: &mut MultiplexedConnection,
) -> Result<Vec<GroupOutcome>, StoreError> {
    let rollover_errors = roll_over_days(redis, server, &groups, deadline, connection).await?;
    let rolled_over = groups.into_iter().zip(&rollover_errors).filter(|(_, why)| why.is_none());
    let rolled_over: Vec<CallGroup<'_>> = rolled_over.map(|(group, _)| group).collect();
    if rolled_over.is_empty() {
        return Ok(rollover_errors.into_iter().flatten().map(Err).collect());
    }
    let mut judged =
        call_check_script(redis, server, &rolled_over, deadline, connection).await?.into_iter();
    let outcome = |why: Option<CallError>| match why {
        Some(why) => Err(why),
        None => judged.next().unwrap_or_else(|| Err(missing_reply())),
    };
    Ok(rollover_errors.into_iter().map(outcome).collect())
}

/// Keeps what is over of all days that the groups count; of each why that did not happen.
async fn roll_over_days(
    redis: &Redis,
    server: &RedisInstance,
    groups: &[CallGroup<'_>],
    deadline: Instant,
    connection: &mut MultiplexedConnection,
) -> Result<Vec<Option<CallError>>, StoreError> {
    let now = redis.clock.now();
    let (mut calls, mut positions) = (Vec::new(), Vec::new());
    for (position, group) in groups.iter().enumerate() {
        let days = UsageCall::for_day_rollover(&group.checks, now);
        if !days.is_empty() {
            calls.push((days, group.is_asking));
            positions.push(position);
        }
    }
    let mut rollover_errors = vec![None; groups.len()];
    if !calls.is_empty() {
        let replies = call_script(&script::USAGE_SCRIPT, &calls, deadline, connection).await?;
        for (position, reply) in positions.into_iter().zip(replies) {
            rollover_errors[position] = reply.err().map(|error| call_error(server, &error));
        }
    }
    Ok(rollover_errors)
}

/// What the server says to each call of a script.
async fn call_script<A: ScriptArgs>(
    script: &Script,
    calls: &[(A, bool)],
    deadline: Instant,
    connection: &mut MultiplexedConnection,
) -> Result<Vec<ScriptReply>, StoreError> {
    let replies = timeout_at(deadline, script.run_pipelined(calls, connection)).await;
    let replies =
        replies.map_err(|_| StoreError::Timeout)?.map_err(|error| errors::classify(&error))?;
    if replies.len() != calls.len() {
        return Err(StoreError::BadReply("there are not as many answers as calls".into()));
    }
    Ok(replies)
}

async fn call_check_script(
    redis: &Redis,
    server: &RedisInstance,
    groups: &[CallGroup<'_>],
    deadline: Instant,
    connection: &mut MultiplexedConnection,
) -> Result<Vec<GroupOutcome>, StoreError> {
    let offered_for = redis.clock.now();
    let calls: Vec<(CheckCall, bool)> = groups
        .iter()
        .map(|group| {
            let mut call = CheckCall::default();
            group.checks.iter().for_each(|charges| call.add_check(charges, offered_for));
            group.refunds.iter().for_each(|refund| call.add_refund(refund, offered_for));
            (call, group.is_asking)
        })
        .collect();
    let began = Instant::now();
    let replies = call_script(&script::CHECK_SCRIPT, &calls, deadline, connection).await;
    redis.metrics.store_duration.observe(began.elapsed().as_secs_f64());
    let checks: usize = groups.iter().map(|group| group.checks.len()).sum();
    #[expect(clippy::cast_precision_loss, reason = "a count for a histogram")]
    redis.metrics.store_batch.observe(checks as f64);
    Ok(groups
        .iter()
        .zip(replies?)
        .map(|(group, reply)| decode_reply(redis, server, group, reply))
        .collect())
}

fn decode_reply(
    redis: &Redis,
    server: &RedisInstance,
    group: &CallGroup<'_>,
    reply: ScriptReply,
) -> GroupOutcome {
    let value = reply.map_err(|error| call_error(server, &error))?;
    let mut decoder = ReplyDecoder::new(value).map_err(CallError::Failed)?;
    redis.clock.observe(decoder.now);
    let mut results = Vec::with_capacity(group.checks.len());
    for (index, charges) in (0..).zip(&group.checks) {
        results.push(match decoder.next_check(charges).map_err(CallError::Failed)? {
            CheckReply::Verdict(verdict) => Ok(StoreVerdict { verdict, index, leased: false }),
            CheckReply::WindowMiss => Err(NoVerdict::WindowMiss),
            CheckReply::DayRollover => Err(NoVerdict::DayRollover),
            CheckReply::BadRow(why) => {
                redis.metrics.record_store_error("bad_row");
                tracing::error!(why, "a stored row cannot be read");
                Err(NoVerdict::Failed(CallError::Failed(StoreError::BadRow(why))))
            }
        });
    }
    Ok(results)
}

/// Why a server did not do what a call asked.
fn call_error(server: &RedisInstance, error: &RedisError) -> CallError {
    match Redirect::from_error(error, server.host()) {
        Some(redirect) => CallError::Redirected(redirect),
        None => CallError::Failed(errors::classify(error)),
    }
}

fn missing_reply() -> CallError {
    CallError::Failed(StoreError::BadReply("a check has no answer".into()))
}

/// Answers every job. What was judged is handed out in the order in which `grouping::group_calls` met it.
pub(super) fn send_results(jobs: Vec<Job>, outcomes: Vec<GroupOutcome>, positions: &[usize]) {
    let mut outcomes: Vec<_> =
        outcomes.into_iter().map(|outcome| outcome.map(Vec::into_iter)).collect();
    let mut positions = positions.iter().copied();
    for job in jobs {
        let mut answers = JobResults::new();
        for _ in &job.work.checks {
            answers.push(match outcomes.get_mut(positions.next().unwrap_or(0)) {
                Some(Ok(results)) => {
                    results.next().ok_or_else(missing_reply).and_then(final_result)
                }
                Some(Err(error)) => Err(error.clone()),
                None => Err(missing_reply()),
            });
        }
        if !job.work.refunds.is_empty()
            && let Some(Err(error)) = outcomes.get(positions.next().unwrap_or(0))
        {
            answers.push(Err(error.clone()));
        }
        let _nobody_waits = job.results.send(answers);
    }
}

fn final_result(result: Result<StoreVerdict, NoVerdict>) -> Result<StoreVerdict, CallError> {
    result.map_err(|reason| match reason {
        NoVerdict::Failed(error) => error,
        NoVerdict::WindowMiss => CallError::Failed(StoreError::BadReply(
            "Redis' clock moved away twice within one check".into(),
        )),
        NoVerdict::DayRollover => {
            CallError::Failed(StoreError::BadRow("the days before this one cannot be kept".into()))
        }
    })
}

//! One commit: what a driver sends together, and what becomes of each check in it.
//!
//! All parts go in one pipeline, and what was not judged for want of a window or of a kept day goes
//! once more. Which checks make a part is for `parts` to say.

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, timeout_at};

use super::parts::Part;
use super::wire::{Answers, Job, Unjudged};
use crate::store::Answer;
use crate::store::redis::call::Call;
use crate::store::redis::cluster::Redirect;
use crate::store::redis::reply::{Judged, Reply};
use crate::store::redis::script::{self, Arguments, Said, Script};
use crate::store::redis::usage::UsageCall;
use crate::store::redis::{Error, Redis, errors, server::Server};

/// What became of one script call: of each of its checks, or of none.
pub(super) type Outcome = Result<Vec<Result<Answer, Undecided>>, Unjudged>;

/// What became of all parts.
pub(super) struct Committed {
    /// Of each.
    pub(super) outcomes: Vec<Outcome>,
    /// Why calls came to nothing: all of one pipeline for the same reason where the connection is of
    /// no more use, or too slow.
    pub(super) failures: Vec<Unjudged>,
}

/// Why a check of a call that succeeded has no verdict.
pub(super) enum Undecided {
    /// Redis' clock lies outside the windows that were offered.
    Outside,
    /// It would write over a day that has to be kept first.
    Over,
    /// It has its own reason.
    Unjudged(Unjudged),
}

/// Sends all parts together and, once, those checks again whose windows did not hold Redis' clock,
/// which has been read then, or that met days to be kept first.
pub(super) async fn run(
    redis: &Redis,
    server: &Server,
    parts: &[Part<'_>],
    deadline: Instant,
    connection: &mut MultiplexedConnection,
) -> Committed {
    let mut committed = Committed { outcomes: Vec::new(), failures: Vec::new() };
    let called = call(redis, server, parts, deadline, connection).await;
    committed.outcomes = committed.noted(called, parts.len());
    let (mut again, mut places) = (Vec::new(), Vec::new());
    for (place, (part, outcome)) in parts.iter().zip(&committed.outcomes).enumerate() {
        let Ok(results) = outcome else { continue };
        let open =
            |index: &usize| matches!(results[*index], Err(Undecided::Outside | Undecided::Over));
        let within: Vec<usize> = (0..results.len()).filter(open).collect();
        if !within.is_empty() {
            let checks = within.iter().map(|&index| part.checks[index]).collect();
            again.push(Part { checks, refunds: Vec::new(), is_asking: part.is_asking });
            places.push((place, within));
        }
    }
    if again.is_empty() {
        return committed;
    }
    let later = ask_again(redis, server, again, deadline, connection).await;
    let later = committed.noted(later, places.len());
    for ((place, within), later) in places.into_iter().zip(later) {
        let Ok(results) = &mut committed.outcomes[place] else { continue };
        // What was judged the first time stays judged, whatever became of these.
        let mut later = later.map(Vec::into_iter);
        for index in within {
            results[index] = match &mut later {
                Ok(later) => later.next().unwrap_or(Err(Undecided::Outside)),
                Err(unjudged) => Err(Undecided::Unjudged(unjudged.clone())),
            };
        }
    }
    committed
}

impl Committed {
    /// Whether a call had no answer in time.
    pub(super) fn has_timed_out(&self) -> bool {
        self.failures.iter().any(|why| matches!(why, Unjudged::Failed(Error::Timeout)))
    }

    /// The outcomes of so many parts; remembers why any of them failed.
    fn noted(&mut self, outcomes: Result<Vec<Outcome>, Error>, parts: usize) -> Vec<Outcome> {
        match outcomes {
            Ok(outcomes) => {
                let failed = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
                self.failures.extend(failed.cloned());
                outcomes
            }
            Err(error) => {
                let failed = Unjudged::Failed(error);
                self.failures.push(failed.clone());
                (0..parts).map(|_| Err(failed.clone())).collect()
            }
        }
    }
}

/// Keeps the days that are over, then asks once more. Where they cannot be kept nothing is asked.
async fn ask_again(
    redis: &Redis,
    server: &Server,
    parts: Vec<Part<'_>>,
    deadline: Instant,
    connection: &mut MultiplexedConnection,
) -> Result<Vec<Outcome>, Error> {
    let unkept = keep_days(redis, server, &parts, deadline, connection).await?;
    let kept = parts.into_iter().zip(&unkept).filter(|(_, why)| why.is_none());
    let kept: Vec<Part<'_>> = kept.map(|(part, _)| part).collect();
    if kept.is_empty() {
        return Ok(unkept.into_iter().flatten().map(Err).collect());
    }
    let mut judged = call(redis, server, &kept, deadline, connection).await?.into_iter();
    let outcome = |why: Option<Unjudged>| match why {
        Some(why) => Err(why),
        None => judged.next().unwrap_or_else(|| Err(unanswered())),
    };
    Ok(unkept.into_iter().map(outcome).collect())
}

/// Keeps what is over of all days that the parts count; of each why that did not happen.
async fn keep_days(
    redis: &Redis,
    server: &Server,
    parts: &[Part<'_>],
    deadline: Instant,
    connection: &mut MultiplexedConnection,
) -> Result<Vec<Option<Unjudged>>, Error> {
    let now = redis.clock.now();
    let (mut calls, mut places) = (Vec::new(), Vec::new());
    for (place, part) in parts.iter().enumerate() {
        let days = UsageCall::days_of(&part.checks, now);
        if !days.is_empty() {
            calls.push((days, part.is_asking));
            places.push(place);
        }
    }
    let mut unkept = vec![None; parts.len()];
    if !calls.is_empty() {
        let said = say(&script::USAGE, &calls, deadline, connection).await?;
        for (place, said) in places.into_iter().zip(said) {
            unkept[place] = said.err().map(|error| unjudged(server, &error));
        }
    }
    Ok(unkept)
}

/// What the server says to each call of a script.
async fn say<A: Arguments>(
    script: &Script,
    calls: &[(A, bool)],
    deadline: Instant,
    connection: &mut MultiplexedConnection,
) -> Result<Vec<Said>, Error> {
    let said = timeout_at(deadline, script.run_all(calls, connection)).await;
    let said = said.map_err(|_| Error::Timeout)?.map_err(|error| errors::meaning(&error))?;
    if said.len() != calls.len() {
        return Err(Error::BadReply("there are not as many answers as calls".into()));
    }
    Ok(said)
}

async fn call(
    redis: &Redis,
    server: &Server,
    parts: &[Part<'_>],
    deadline: Instant,
    connection: &mut MultiplexedConnection,
) -> Result<Vec<Outcome>, Error> {
    let offered_for = redis.clock.now();
    let calls: Vec<(Call, bool)> = parts
        .iter()
        .map(|part| {
            let mut call = Call::default();
            part.checks.iter().for_each(|charges| call.add(charges, offered_for));
            part.refunds.iter().for_each(|refund| call.refund(refund, offered_for));
            (call, part.is_asking)
        })
        .collect();
    let began = Instant::now();
    let said = say(&script::CHECK, &calls, deadline, connection).await;
    redis.metrics.store_duration.observe(began.elapsed().as_secs_f64());
    let checks: usize = parts.iter().map(|part| part.checks.len()).sum();
    #[expect(clippy::cast_precision_loss, reason = "a count for a histogram")]
    redis.metrics.store_batch.observe(checks as f64);
    Ok(parts.iter().zip(said?).map(|(part, said)| decode(redis, server, part, said)).collect())
}

fn decode(redis: &Redis, server: &Server, part: &Part<'_>, said: Said) -> Outcome {
    let value = said.map_err(|error| unjudged(server, &error))?;
    let mut reply = Reply::new(value).map_err(Unjudged::Failed)?;
    redis.clock.observe(reply.now);
    let mut results = Vec::with_capacity(part.checks.len());
    for (index, charges) in (0..).zip(&part.checks) {
        results.push(match reply.next(charges).map_err(Unjudged::Failed)? {
            Judged::Verdict(verdict) => Ok(Answer { verdict, index, leased: false }),
            Judged::Elsewhere => Err(Undecided::Outside),
            Judged::Over => Err(Undecided::Over),
            Judged::BadRow(why) => {
                redis.metrics.record_store_error("bad_row");
                tracing::error!(why, "a stored row cannot be read");
                Err(Undecided::Unjudged(Unjudged::Failed(Error::BadRow(why))))
            }
        });
    }
    Ok(results)
}

/// Why a server did not do what a call asked.
fn unjudged(server: &Server, error: &RedisError) -> Unjudged {
    match Redirect::of(error, server.host()) {
        Some(redirect) => Unjudged::Elsewhere(redirect),
        None => Unjudged::Failed(errors::meaning(error)),
    }
}

fn unanswered() -> Unjudged {
    Unjudged::Failed(Error::BadReply("a check has no answer".into()))
}

/// Answers every job. What was judged is handed out in the order in which `parts::split` met it.
pub(super) fn answer(jobs: Vec<Job>, outcomes: Vec<Outcome>, places: &[usize]) {
    let mut outcomes: Vec<_> =
        outcomes.into_iter().map(|outcome| outcome.map(Vec::into_iter)).collect();
    let mut places = places.iter().copied();
    for job in jobs {
        let mut answers = Answers::new();
        for _ in &job.work.checks {
            answers.push(match outcomes.get_mut(places.next().unwrap_or(0)) {
                Some(Ok(results)) => results.next().ok_or_else(unanswered).and_then(settled),
                Some(Err(unjudged)) => Err(unjudged.clone()),
                None => Err(unanswered()),
            });
        }
        if !job.work.refunds.is_empty()
            && let Some(Err(unjudged)) = outcomes.get(places.next().unwrap_or(0))
        {
            answers.push(Err(unjudged.clone()));
        }
        let _nobody_waits = job.answers.send(answers);
    }
}

fn settled(result: Result<Answer, Undecided>) -> Result<Answer, Unjudged> {
    result.map_err(|undecided| match undecided {
        Undecided::Unjudged(unjudged) => unjudged,
        Undecided::Outside => Unjudged::Failed(Error::BadReply(
            "Redis' clock moved away twice within one check".into(),
        )),
        Undecided::Over => {
            Unjudged::Failed(Error::BadRow("the days before this one cannot be kept".into()))
        }
    })
}

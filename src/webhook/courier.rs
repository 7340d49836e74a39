//! From what was found to what was delivered: two loops around the outbox.
//!
//! One notes what this node has found, the other delivers what is due, whichever node has noted it.
//! Neither forgets anything on its own: what a lost outbox does not take is kept here, and what is
//! not struck off is due again when its claim ends.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::event::events;
use super::receiver::Receiver;
use super::thresholds::Reached;
use crate::store::{Due, Error, Event, Outbox};
use crate::telemetry::{DeliveryOutcome, Metrics};
use crate::time::Micros;

/// How often a node looks what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a lost or full outbox is left alone.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long a node that stops may take to note what it has found.
const LAST_CALL: Duration = Duration::from_secs(5);
/// The most events that are noted at once.
const NOTED: usize = 100;
/// The most that are delivered at once.
const DELIVERED: usize = 16;
/// After which multiples of the first wait the retries come, each counted from the one before.
const RETRIES: [u32; 9] = [1, 60, 360, 1_440, 3_600, 7_200, 10_080, 14_400, 17_280];

/// Carries events from this node to the outbox, and from there to their receiver.
pub(super) struct Courier {
    pub(super) outbox: Outbox,
    pub(super) receiver: Receiver,
    pub(super) retry_after: Duration,
    pub(super) metrics: Arc<Metrics>,
    /// That something was noted here.
    pub(super) noted: Notify,
}

/// Turns true when the node stops.
pub(super) type Stopping = watch::Receiver<bool>;

async fn stopped(stopping: &mut Stopping) {
    let _stopped_or_gone = stopping.wait_for(|stops| *stops).await;
}

impl Courier {
    /// Notes what is found, until the node stops; then what is left.
    pub(super) async fn note(
        self: Arc<Self>,
        mut found: mpsc::Receiver<Reached>,
        mut stopping: Stopping,
    ) {
        let mut waiting: Vec<Event> = Vec::new();
        loop {
            let reached = tokio::select! {
                reached = found.recv(), if waiting.is_empty() => reached,
                () = stopped(&mut stopping) => break,
                () = sleep(AGAIN_AFTER), if !waiting.is_empty() => None,
            };
            waiting.extend(reached.iter().flat_map(events));
            gather(&mut found, &mut waiting);
            self.try_note(&mut waiting).await;
        }
        found.close();
        let deadline = Instant::now() + LAST_CALL;
        let rest = async {
            loop {
                gather(&mut found, &mut waiting);
                if waiting.is_empty() {
                    return;
                }
                if !self.try_note(&mut waiting).await {
                    sleep(AGAIN_AFTER / 10).await;
                }
            }
        };
        if timeout_at(deadline, rest).await.is_err() {
            let events = waiting.len();
            tracing::error!(
                events,
                "thresholds were not noted; they will be when their keys are used next"
            );
        }
    }

    /// Whether the outbox has taken all.
    async fn try_note(&self, waiting: &mut Vec<Event>) -> bool {
        match self.outbox.note(waiting).await {
            Ok(taken) => drop(waiting.drain(..taken.min(waiting.len()))),
            Err(error) => {
                tracing::warn!(%error, "thresholds that were reached wait to be noted");
            }
        }
        self.noted.notify_one();
        waiting.is_empty()
    }

    /// Delivers what is due, until the node stops; then what it has begun.
    pub(super) async fn deliver(self: Arc<Self>, mut stopping: Stopping) {
        while !*stopping.borrow() {
            let claimed = self.deliver_some().await.unwrap_or_else(|error| {
                tracing::debug!(%error, "what is due to be delivered is not known");
                0
            });
            if claimed < DELIVERED {
                tokio::select! {
                    () = self.noted.notified() => (),
                    () = stopped(&mut stopping) => (),
                    () = sleep(LOOK_EVERY) => (),
                }
            }
        }
    }

    async fn deliver_some(&self) -> Result<usize, Error> {
        let claim = self.outbox.claim(DELIVERED).await?;
        self.metrics.webhooks.waiting.set(i64::try_from(claim.waiting).unwrap_or(i64::MAX));
        let claimed = claim.due.len();
        let settled = join_all(claim.due.into_iter().map(|due| self.attempt(due, claim.now))).await;
        let struck = settled.into_iter().filter(|&struck| struck).count();
        self.metrics.webhooks.waiting.sub(i64::try_from(struck).unwrap_or(i64::MAX));
        Ok(claimed)
    }

    /// One attempt, and what follows from it; whether the event is struck off.
    async fn attempt(&self, due: Due, now: Micros) -> bool {
        let Due { id, body, attempt } = due;
        let began = Instant::now();
        let answer = self.receiver.post(&id, now.get() / 1_000_000, body).await;
        let why = match &answer {
            Ok(status) if status.is_success() => {
                tracing::debug!(id, attempt, "a webhook was delivered");
                return self.strike(id, DeliveryOutcome::Delivered).await;
            }
            Ok(status) => format!("the receiver says {status}"),
            Err(error) => error.to_string(),
        };
        let retry = attempt.checked_sub(1).and_then(|retry| RETRIES.get(retry));
        let is_gone = matches!(answer, Ok(StatusCode::GONE));
        let Some(multiple) = retry.filter(|_| !is_gone) else {
            tracing::error!(id, attempt, why, "a webhook is given up");
            return self.strike(id, DeliveryOutcome::GivenUp).await;
        };
        let wait = jittered(self.retry_after * *multiple);
        tracing::warn!(id, attempt, why, ?wait, "a webhook was not delivered and is tried again");
        self.metrics.webhooks.record_attempt(DeliveryOutcome::Failed);
        let wait = u64::try_from((began.elapsed() + wait).as_micros()).unwrap_or(u64::MAX);
        is_settled(&self.outbox.put_off(id, now + Micros::new(wait)).await);
        false
    }

    async fn strike(&self, id: String, outcome: DeliveryOutcome) -> bool {
        self.metrics.webhooks.record_attempt(outcome);
        is_settled(&self.outbox.strike(id).await)
    }
}

/// Takes more of what is found, as long as it can be noted at once.
fn gather(found: &mut mpsc::Receiver<Reached>, waiting: &mut Vec<Event>) {
    while waiting.len() < NOTED
        && let Ok(reached) = found.try_recv()
    {
        waiting.extend(events(&reached));
    }
}

/// Whether the outbox knows what became of an event; the log does in any case.
fn is_settled(settled: &Result<(), Error>) -> bool {
    if let Err(error) = settled {
        tracing::warn!(%error, "what became of a webhook was not noted; it is sent once more");
    }
    settled.is_ok()
}

/// The same and up to a fifth: what failed together is not retried together.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0];
    let _none_without_randomness = getrandom::fill(&mut random);
    wait + wait * u32::from(random[0]) / (5 * 256)
}

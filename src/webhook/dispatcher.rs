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

use super::endpoint::WebhookEndpoint;
use super::event::threshold_events;
use super::thresholds::ThresholdReached;
use crate::store::{DueEvent, Outbox, OutboxEvent, StoreError};
use crate::telemetry::{DeliveryOutcome, Metrics};
use crate::time::Micros;

/// How often a node looks what is due.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a lost or full outbox is left alone.
const OUTBOX_RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long a node that stops may take to note what it has found.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// The most events that are noted at once.
const MAX_RECORD_BATCH: usize = 100;
/// The most that are delivered at once.
const MAX_DELIVERY_BATCH: usize = 16;
/// After which multiples of the first wait the retries come, each counted from the one before.
const RETRY_MULTIPLES: [u32; 9] = [1, 60, 360, 1_440, 3_600, 7_200, 10_080, 14_400, 17_280];

/// Carries events from this node to the outbox, and from there to their receiver.
pub(super) struct Dispatcher {
    pub(super) outbox: Outbox,
    pub(super) endpoint: WebhookEndpoint,
    pub(super) retry_after: Duration,
    pub(super) metrics: Arc<Metrics>,
    /// That something was noted here.
    pub(super) recorded: Notify,
}

/// Turns true when the node stops.
pub(super) type ShutdownSignal = watch::Receiver<bool>;

async fn wait_for_shutdown(shutdown: &mut ShutdownSignal) {
    let _stopped_or_gone = shutdown.wait_for(|stops| *stops).await;
}

impl Dispatcher {
    /// Notes what is found, until the node stops; then what is left.
    pub(super) async fn record_events(
        self: Arc<Self>,
        mut found: mpsc::Receiver<ThresholdReached>,
        mut shutdown: ShutdownSignal,
    ) {
        let mut waiting: Vec<OutboxEvent> = Vec::new();
        loop {
            let reached = tokio::select! {
                reached = found.recv(), if waiting.is_empty() => reached,
                () = wait_for_shutdown(&mut shutdown) => break,
                () = sleep(OUTBOX_RETRY_DELAY), if !waiting.is_empty() => None,
            };
            waiting.extend(reached.iter().flat_map(threshold_events));
            drain_found(&mut found, &mut waiting);
            self.try_record(&mut waiting).await;
        }
        found.close();
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        let rest = async {
            loop {
                drain_found(&mut found, &mut waiting);
                if waiting.is_empty() {
                    return;
                }
                if !self.try_record(&mut waiting).await {
                    sleep(OUTBOX_RETRY_DELAY / 10).await;
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
    async fn try_record(&self, waiting: &mut Vec<OutboxEvent>) -> bool {
        match self.outbox.enqueue(waiting).await {
            Ok(taken) => drop(waiting.drain(..taken.min(waiting.len()))),
            Err(error) => {
                tracing::warn!(%error, "thresholds that were reached wait to be noted");
            }
        }
        self.recorded.notify_one();
        waiting.is_empty()
    }

    /// Delivers what is due, until the node stops; then what it has begun.
    pub(super) async fn deliver(self: Arc<Self>, mut shutdown: ShutdownSignal) {
        while !*shutdown.borrow() {
            let claimed = self.deliver_batch().await.unwrap_or_else(|error| {
                tracing::debug!(%error, "what is due to be delivered is not known");
                0
            });
            if claimed < MAX_DELIVERY_BATCH {
                tokio::select! {
                    () = self.recorded.notified() => (),
                    () = wait_for_shutdown(&mut shutdown) => (),
                    () = sleep(POLL_INTERVAL) => (),
                }
            }
        }
    }

    async fn deliver_batch(&self) -> Result<usize, StoreError> {
        let claim = self.outbox.claim(MAX_DELIVERY_BATCH).await?;
        self.metrics.webhooks.waiting.set(i64::try_from(claim.waiting).unwrap_or(i64::MAX));
        let claimed = claim.due.len();
        let outcomes =
            join_all(claim.due.into_iter().map(|due| self.attempt(due, claim.now))).await;
        let struck = outcomes.into_iter().filter(|&struck| struck).count();
        self.metrics.webhooks.waiting.sub(i64::try_from(struck).unwrap_or(i64::MAX));
        Ok(claimed)
    }

    /// One attempt, and what follows from it; whether the event is struck off.
    async fn attempt(&self, due: DueEvent, now: Micros) -> bool {
        let DueEvent { id, body, attempt } = due;
        let began = Instant::now();
        let answer = self.endpoint.post(&id, now.get() / 1_000_000, body).await;
        let why = match &answer {
            Ok(status) if status.is_success() => {
                tracing::debug!(id, attempt, "a webhook was delivered");
                return self.acknowledge(id, DeliveryOutcome::Delivered).await;
            }
            Ok(status) => format!("the receiver says {status}"),
            Err(error) => error.to_string(),
        };
        let retry = attempt.checked_sub(1).and_then(|retry| RETRY_MULTIPLES.get(retry));
        let is_gone = matches!(answer, Ok(StatusCode::GONE));
        let Some(multiple) = retry.filter(|_| !is_gone) else {
            tracing::error!(id, attempt, why, "a webhook is given up");
            return self.acknowledge(id, DeliveryOutcome::GivenUp).await;
        };
        let wait = jittered(self.retry_after * *multiple);
        tracing::warn!(id, attempt, why, ?wait, "a webhook was not delivered and is tried again");
        self.metrics.webhooks.record_attempt(DeliveryOutcome::Failed);
        let wait = u64::try_from((began.elapsed() + wait).as_micros()).unwrap_or(u64::MAX);
        was_recorded(&self.outbox.reschedule(id, now + Micros::new(wait)).await);
        false
    }

    async fn acknowledge(&self, id: String, outcome: DeliveryOutcome) -> bool {
        self.metrics.webhooks.record_attempt(outcome);
        was_recorded(&self.outbox.remove(id).await)
    }
}

/// Takes more of what is found, as long as it can be noted at once.
fn drain_found(found: &mut mpsc::Receiver<ThresholdReached>, waiting: &mut Vec<OutboxEvent>) {
    while waiting.len() < MAX_RECORD_BATCH
        && let Ok(reached) = found.try_recv()
    {
        waiting.extend(threshold_events(&reached));
    }
}

/// Whether the outbox knows what became of an event; the log does in any case.
fn was_recorded(result: &Result<(), StoreError>) -> bool {
    if let Err(error) = result {
        tracing::warn!(%error, "what became of a webhook was not noted; it is sent once more");
    }
    result.is_ok()
}

/// The same and up to a fifth: what failed together is not retried together.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0];
    let _none_without_randomness = getrandom::fill(&mut random);
    wait + wait * u32::from(random[0]) / (5 * 256)
}

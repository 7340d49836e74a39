//! The dispatcher: two loops around the outbox.
//!
//! One loop records the events that this node has found, the other delivers events that are due, of
//! any node. No event is lost on the way: events that the outbox does not take are kept here, and
//! an event that is not removed from the outbox is retried when its claim expires.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::endpoint::WebhookEndpoint;
use super::event::threshold_events;
use super::thresholds::ThresholdReached;
use crate::engine::{DeliveryAttempt, DeliveryLog};
use crate::store::{DueEvent, Outbox, OutboxEvent, StoreError};
use crate::telemetry::{DeliveryOutcome, Metrics};
use crate::time::Micros;

/// The interval at which a node looks for due events.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The backoff while the outbox is unreachable or full.
const OUTBOX_RETRY_DELAY: Duration = Duration::from_secs(1);
/// The longest time for recording the remaining events when the node stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// The most events that are recorded at once.
const MAX_RECORD_BATCH: usize = 100;
/// The most events that are delivered at once.
const MAX_DELIVERY_BATCH: usize = 16;
/// The backoff of each retry after the one before, as a multiple of the first backoff.
const RETRY_MULTIPLES: [u32; 9] = [1, 60, 360, 1_440, 3_600, 7_200, 10_080, 14_400, 17_280];

/// Moves events from this node to the outbox, and from there to their receiver.
pub(super) struct Dispatcher {
    pub(super) outbox: Outbox,
    pub(super) endpoint: WebhookEndpoint,
    pub(super) retry_after: Duration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) log: DeliveryLog,
    /// Notified when events were recorded here.
    pub(super) recorded: Notify,
}

/// Becomes true when the node stops.
pub(super) type ShutdownSignal = watch::Receiver<bool>;

async fn wait_for_shutdown(shutdown: &mut ShutdownSignal) {
    let _stopped_or_gone = shutdown.wait_for(|stops| *stops).await;
}

impl Dispatcher {
    /// Records events as they are found, until the node stops; then those that remain.
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
                "events were not recorded; they will be when their keys are used next"
            );
        }
    }

    /// Records waiting events. Returns true if the outbox has taken all of them.
    async fn try_record(&self, waiting: &mut Vec<OutboxEvent>) -> bool {
        match self.outbox.enqueue(waiting).await {
            Ok(taken) => drop(waiting.drain(..taken.min(waiting.len()))),
            Err(error) => {
                tracing::warn!(%error, "events wait to be recorded in the outbox");
            }
        }
        self.recorded.notify_one();
        waiting.is_empty()
    }

    /// Delivers events that are due until the node stops, and completes those that it has begun.
    pub(super) async fn deliver(self: Arc<Self>, mut shutdown: ShutdownSignal) {
        while !*shutdown.borrow() {
            let claimed = self.deliver_batch().await.unwrap_or_else(|error| {
                tracing::debug!(%error, "due events cannot be claimed from the outbox");
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
        let removed = outcomes.into_iter().filter(|&removed| removed).count();
        self.metrics.webhooks.waiting.sub(i64::try_from(removed).unwrap_or(i64::MAX));
        Ok(claimed)
    }

    /// Makes one attempt to deliver an event and records its result. Returns true if the event was
    /// removed.
    async fn attempt(&self, due: DueEvent, now: Micros) -> bool {
        let DueEvent { id, body, attempt } = due;
        let began = Instant::now();
        let response = self.endpoint.post(&id, now.get() / 1_000_000, body.clone()).await;
        let log = |outcome, why| {
            self.log.add(DeliveryAttempt::new((&id, attempt), &body, outcome, why));
        };
        let why = match &response {
            Ok(status) if status.is_success() => {
                tracing::debug!(id, attempt, "a webhook was delivered");
                log(DeliveryOutcome::Delivered, None);
                return self.acknowledge(id, DeliveryOutcome::Delivered).await;
            }
            Ok(status) => format!("the receiver responded {status}"),
            Err(error) => error.to_string(),
        };
        let retry = attempt.checked_sub(1).and_then(|retry| RETRY_MULTIPLES.get(retry));
        let is_gone = matches!(response, Ok(StatusCode::GONE));
        let Some(multiple) = retry.filter(|_| !is_gone) else {
            tracing::error!(id, attempt, why, "a webhook is given up");
            log(DeliveryOutcome::GivenUp, Some(&why));
            return self.acknowledge(id, DeliveryOutcome::GivenUp).await;
        };
        let wait = jittered(self.retry_after * *multiple);
        tracing::warn!(id, attempt, why, ?wait, "a webhook was not delivered and is retried");
        log(DeliveryOutcome::Failed, Some(&why));
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

/// Takes more events from the queue, as many as can be recorded at once.
fn drain_found(found: &mut mpsc::Receiver<ThresholdReached>, waiting: &mut Vec<OutboxEvent>) {
    while waiting.len() < MAX_RECORD_BATCH
        && let Ok(reached) = found.try_recv()
    {
        waiting.extend(threshold_events(&reached));
    }
}

/// Returns true if the outbox has stored the result of an attempt; logs the error otherwise.
fn was_recorded(result: &Result<(), StoreError>) -> bool {
    if let Err(error) = result {
        tracing::warn!(%error, "the result of a webhook was not recorded; it is sent again");
    }
    result.is_ok()
}

/// The backoff plus a random part of up to a fifth, so that retries do not come at the same time.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0];
    let _none_without_randomness = getrandom::fill(&mut random);
    wait + wait * u32::from(random[0]) / (5 * 256)
}

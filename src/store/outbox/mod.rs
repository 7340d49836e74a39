//! The outbox: webhook events that wait until they are delivered or given up. Each is enqueued
//! once.
//!
//! A node claims an event before it sends the request to the receiver. If the node stops before it
//! removes or reschedules the event, the claim expires and another node claims it. The content of
//! events and their receivers are not known here.

mod embedded;

use std::sync::Arc;

use super::{Redis, StoreError};
use crate::time::Micros;
pub use embedded::EmbeddedOutbox;

/// The most events that wait. More are not accepted until there is room.
pub(super) const MAX_EVENTS: u64 = 100_000;
/// The time until a claim expires: longer than the timeout of a delivery.
pub(super) const CLAIM_DURATION: Micros = Micros::from_secs(30);

/// The events that wait to be delivered, in this process or in Redis for all nodes.
#[derive(Clone)]
pub enum Outbox {
    /// A file of this process, or its memory.
    Embedded(Arc<EmbeddedOutbox>),
    /// Redis, shared by all nodes.
    Redis(Arc<Redis>),
}

/// An event to enqueue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    /// The identity of the event: letters, digits, `-` and `_`. A second event of this id is
    /// ignored.
    pub id: String,
    /// The body of the webhook request: one line.
    pub body: String,
    /// The time until which the id is remembered. It is the same for the same id.
    pub remember_until: Micros,
}

/// An event to deliver now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueEvent {
    /// The id.
    pub id: String,
    /// The body of the webhook request.
    pub body: String,
    /// The number of this attempt, from 1.
    pub attempt: usize,
}

/// The result of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The store's clock.
    pub now: Micros,
    /// The number of events in the outbox, including the claimed ones.
    pub waiting: u64,
    /// The claimed events.
    pub due: Vec<DueEvent>,
}

impl Outbox {
    /// Enqueues the events whose ids are new. Returns how many of `events`, from the first on, need
    /// not be enqueued again; for the rest there is no room now.
    ///
    /// # Errors
    /// If the store failed.
    pub async fn enqueue(&self, events: &[OutboxEvent]) -> Result<usize, StoreError> {
        match self {
            Self::Embedded(embedded) => {
                let events = events.to_vec();
                run_blocking(embedded, move |embedded| embedded.enqueue(&events)).await
            }
            Self::Redis(redis) => redis.outbox_enqueue(events).await,
        }
    }

    /// Claims up to `max_events` events that are due. No other node can claim them for 30 s.
    ///
    /// # Errors
    /// If the store failed. Events that were claimed all the same are due again after 30 s.
    pub async fn claim(&self, max_events: usize) -> Result<Claim, StoreError> {
        match self {
            Self::Embedded(embedded) => {
                run_blocking(embedded, move |outbox| outbox.claim(max_events)).await
            }
            Self::Redis(redis) => redis.outbox_claim(max_events).await,
        }
    }

    /// Removes an event that was delivered or given up.
    ///
    /// # Errors
    /// If the store failed. The event is then delivered again.
    pub async fn remove(&self, id: String) -> Result<(), StoreError> {
        match self {
            Self::Embedded(embedded) => {
                run_blocking(embedded, move |outbox| outbox.remove(&id)).await
            }
            Self::Redis(redis) => redis.outbox_remove(&id).await,
        }
    }

    /// Sets the time of the next attempt of a claimed event.
    ///
    /// # Errors
    /// If the store failed. The event is then due when the claim expires.
    pub async fn reschedule(&self, id: String, until: Micros) -> Result<(), StoreError> {
        match self {
            Self::Embedded(embedded) => {
                run_blocking(embedded, move |outbox| outbox.reschedule(&id, until)).await
            }
            Self::Redis(redis) => redis.outbox_reschedule(&id, until).await,
        }
    }
}

/// Runs a transaction on a thread where waiting for the disk delays no request.
async fn run_blocking<T: Send + 'static>(
    outbox: &Arc<EmbeddedOutbox>,
    work: impl FnOnce(&EmbeddedOutbox) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let outbox = Arc::clone(outbox);
    let done = tokio::task::spawn_blocking(move || work(&outbox)).await;
    done.map_err(|error| StoreError::Disk(format!("the outbox: {error}")))?
}

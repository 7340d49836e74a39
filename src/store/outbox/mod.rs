//! Events on their way to a receiver: each is noted once, and waits here until it is delivered or given up.
//!
//! Whoever claims an event has it for a while to itself; whoever then says nothing of it, because it
//! died, leaves it to the next. What an event says, and who receives it, is not known here.

mod embedded;

use std::sync::Arc;

use super::{Redis, StoreError};
use crate::time::Micros;
pub use embedded::EmbeddedOutbox;

/// The most events that wait; more are not taken until there is room.
pub(super) const MAX_EVENTS: u64 = 100_000;
/// How long a claimed event is left to whoever has claimed it: longer than a delivery may take.
pub(super) const CLAIM_DURATION: Micros = Micros::from_secs(30);

/// What waits to be delivered, in this process or in Redis for all nodes.
#[derive(Clone)]
pub enum Outbox {
    /// In a file of this process, or in its memory.
    Embedded(Arc<EmbeddedOutbox>),
    /// Shared by all nodes.
    Redis(Arc<Redis>),
}

/// Something to be told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    /// What makes it that event: letters, digits, `-` and `_`.
    pub id: String,
    /// What is told: one line.
    pub body: String,
    /// Until when it is remembered that it was noted; the same for the same id.
    pub remember_until: Micros,
}

/// An event to be delivered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueEvent {
    /// Its id.
    pub id: String,
    /// What is told.
    pub body: String,
    /// Which attempt this is, from 1.
    pub attempt: usize,
}

/// What was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The store's clock.
    pub now: Micros,
    /// How many events there are, the claimed ones among them.
    pub waiting: u64,
    /// Those to be delivered.
    pub due: Vec<DueEvent>,
}

impl Outbox {
    /// Notes events, those of them that never were, and says how many are dealt with, from the first
    /// on; for the rest there is no room now. Noting again changes nothing.
    ///
    /// # Errors
    /// Where the store is lost.
    pub async fn enqueue(&self, events: &[OutboxEvent]) -> Result<usize, StoreError> {
        match self {
            Self::Embedded(embedded) => {
                let events = events.to_vec();
                run_blocking(embedded, move |embedded| embedded.enqueue(&events)).await
            }
            Self::Redis(redis) => redis.outbox_note(events).await,
        }
    }

    /// Takes up to `max_events` events that are due: nobody else is given them for 30 s.
    ///
    /// # Errors
    /// Where the store is lost; what was claimed is then free again after that time.
    pub async fn claim(&self, max_events: usize) -> Result<Claim, StoreError> {
        match self {
            Self::Embedded(embedded) => {
                run_blocking(embedded, move |outbox| outbox.claim(max_events)).await
            }
            Self::Redis(redis) => redis.outbox_claim(max_events).await,
        }
    }

    /// Strikes an event off: it was delivered, or never will be.
    ///
    /// # Errors
    /// Where the store is lost; it will then be delivered again.
    pub async fn remove(&self, id: String) -> Result<(), StoreError> {
        match self {
            Self::Embedded(embedded) => {
                run_blocking(embedded, move |outbox| outbox.remove(&id)).await
            }
            Self::Redis(redis) => redis.outbox_strike(&id).await,
        }
    }

    /// Has a claimed event due at this time instead.
    ///
    /// # Errors
    /// Where the store is lost; it is then due when the claim ends.
    pub async fn reschedule(&self, id: String, until: Micros) -> Result<(), StoreError> {
        match self {
            Self::Embedded(embedded) => {
                run_blocking(embedded, move |outbox| outbox.reschedule(&id, until)).await
            }
            Self::Redis(redis) => redis.outbox_put_off(&id, until).await,
        }
    }
}

/// Where waiting for a disk holds nobody up.
async fn run_blocking<T: Send + 'static>(
    outbox: &Arc<EmbeddedOutbox>,
    work: impl FnOnce(&EmbeddedOutbox) -> Result<T, redb::Error> + Send + 'static,
) -> Result<T, StoreError> {
    let outbox = Arc::clone(outbox);
    let done = tokio::task::spawn_blocking(move || work(&outbox)).await;
    let disk_error = |why: &dyn std::fmt::Display| StoreError::Disk(format!("the outbox: {why}"));
    done.map_err(|error| disk_error(&error))?.map_err(|error| disk_error(&error))
}

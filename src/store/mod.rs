//! Where limits are counted: in this process's memory, or in Redis for all nodes.
//!
//! A store judges charges and nothing else; it knows no plan, no HTTP, and no way out when it is
//! lost. Whoever asks gives a deadline and decides what a failure means.

mod counter_store;
mod database;
mod memory;
mod outbox;
mod redis;
mod registry;

use tokio::time::Instant;

use crate::algorithm::Verdict;
use crate::limit::{Charge, Charges, Refund};
use crate::time::Micros;
pub use counter_store::{CounterStore, CounterUsage};
pub use database::DataDirError;
pub use memory::MemoryStore;
pub use outbox::{DueEvent, EmbeddedOutbox, Outbox, OutboxEvent};
pub use redis::{CHECK_SCRIPT_SOURCE, InvalidUrl, Redis, RedisClient, RedisOptions, RedisUrl};
pub use registry::{
    ChangesSince, CommitError, CommitNote, EmbeddedRegistry, EntryChange, Registry,
};

/// The most charges that one check can have.
pub const MAX_CHARGES: usize = u8::MAX as usize;

/// Why a store did not judge.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no connection, or it broke: the check was perhaps charged, if it was on its way.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The data directory cannot be read or written.
    #[error("the data directory cannot be used (is there room, and the right to write?): {0}")]
    Disk(String),
    /// No answer in time. The check **may have been charged**: it must not be sent again.
    #[error("the store gave no answer in time")]
    Timeout,
    /// More checks wait than the store can take; this one was not sent.
    #[error("too many checks wait for the store")]
    Overloaded,
    /// The server is there but does not write: out of memory, a replica, loading.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// The script failed as a whole; nothing was charged.
    #[error("the script failed: {0}")]
    Script(String),
    /// This check met a row that cannot be read; nothing of it was charged.
    #[error("a stored row cannot be read: {0}")]
    BadRow(String),
    /// The answer is not what the script returns.
    #[error("the store's answer makes no sense: {0}")]
    BadReply(String),
}

impl StoreError {
    /// One of `telemetry::STORE_ERROR_KINDS`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Disk(_) => "disk",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Refused(_) => "refused",
            Self::Script(_) => "script",
            Self::BadRow(_) => "bad_row",
            Self::BadReply(_) => "bad_reply",
        }
    }
}

/// What a store decided, and its place in the store's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreVerdict {
    /// The verdict; its `now` orders decisions.
    pub verdict: Verdict,
    /// The order among decisions of the same `now`: the place in its call, or a running number.
    pub index: u64,
    /// Whether it was decided from leases alone, without a call.
    pub leased: bool,
}

/// One worker's way to the store; cheap to clone.
#[derive(Clone)]
pub enum Store {
    /// This process's memory.
    Memory(MemoryStore),
    /// A connection to Redis.
    Redis(RedisClient),
}

impl Store {
    /// Judges one check, in memory at once, in Redis by `deadline`.
    ///
    /// # Errors
    /// Where the store did not judge; see [`StoreError`] for what may have happened.
    pub async fn judge(
        &self,
        charges: &Charges,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.judge(charges)),
            Self::Redis(client) => client.judge(charges, deadline).await,
        }
    }

    /// Judges many checks, each on its own, in their order.
    pub async fn judge_all(
        &self,
        checks: &[Charges],
        deadline: Instant,
    ) -> Vec<Result<StoreVerdict, StoreError>> {
        match self {
            Self::Memory(memory) => {
                checks.iter().map(|charges| Ok(memory.judge(charges))).collect()
            }
            Self::Redis(client) => client.judge_all(checks, deadline).await,
        }
    }

    /// Gives back what was charged and not used, as far as time has not done so already.
    ///
    /// # Errors
    /// Where the store perhaps did not; it must not be asked again.
    pub async fn refund(&self, refunds: Vec<Refund>, deadline: Instant) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => {
                memory.refund(&refunds);
                Ok(())
            }
            Self::Redis(client) => client.refund(refunds, deadline).await,
        }
    }

    /// Two charges that this store cannot judge as one: both are exact, and a Redis Cluster may
    /// have their subjects on different primaries.
    #[must_use]
    pub fn unjudgeable<'c>(&self, charges: &'c Charges) -> Option<(&'c Charge, &'c Charge)> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(client) => client.unjudgeable(charges),
        }
    }

    /// Gives back what is held ahead of time, before the node stops.
    pub async fn retire(&self) {
        if let Self::Redis(client) = self {
            client.retire().await;
        }
    }

    /// What the store's clock shows, as far as this node knows.
    #[must_use]
    pub fn now(&self) -> Micros {
        match self {
            Self::Memory(memory) => memory.now(),
            Self::Redis(client) => client.now(),
        }
    }

    /// Whether some of the node's checks are decided without the store for now.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Redis(client) => client.is_degraded(),
        }
    }
}

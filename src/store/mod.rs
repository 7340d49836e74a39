//! Stores of counters: the memory of this process, or Redis for all nodes.
//!
//! A store judges charges and nothing else. It knows no plans and no HTTP, and it has no failure
//! policy: the caller gives a deadline and decides about a request whose check failed.

mod context;
mod counter_store;
mod database;
mod key_file;
mod memory;
mod outbox;
mod redis;
mod registry;
mod reservation;

use tokio::time::Instant;

use crate::judge::Verdict;
use crate::limit::{Adjustment, Charge, Charges, LeasedUnits, NewReservation, Refund, Subject};
use crate::time::Micros;
pub use context::{CallObserver, CheckContext, RequestContext, ScriptCall};
pub use counter_store::{CounterStore, CounterUsage};
pub use database::{DataDir, DataDirError};
pub use memory::MemoryStore;
pub use outbox::{DueEvent, EmbeddedOutbox, Outbox, OutboxEvent};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use redis::decode_usage;
pub use redis::{
    CHECK_SCRIPT_SOURCE, HeldLeases, InvalidUrl, Redis, RedisClient, RedisOptions, RedisUrl,
    ReportKind,
};
pub use registry::{
    ChangesSince, CommitError, CommitNote, EmbeddedRegistry, EntryChange, IndexChange, Registry,
};
pub use reservation::{AdjustReply, AdjustedReservation, ReserveReply};

/// The reason why a store did not judge a check.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no connection, or it broke. A check that was already sent **may have been
    /// charged**.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The data directory cannot be read or written: the file, the fault and its remedy.
    #[error("{0}")]
    Disk(String),
    /// No reply before the deadline. The check **may have been charged**: it must not be retried.
    #[error("the store gave no reply in time")]
    Timeout,
    /// The node's own queue to a store that replies is too long. The check was not sent, or with
    /// too little of its deadline left for a reply: then it **may have been charged**.
    #[error("too many checks wait for the store")]
    Overloaded,
    /// The store is nearly full, and has no counter of this subject, which a caller has made up.
    /// Nothing was charged. Counters that exist are still charged.
    #[error("the store is nearly full and takes no new subjects")]
    NewSubject(Box<Subject>),
    /// The server replies but does not write: it is out of memory, busy, a replica, or loading.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// The server can be reached, and never does what the node needs until an operator changes
    /// either of them: a wrong password, missing rights, another scheme. The text says what to do.
    #[error("the store cannot be used as it is configured: {0}")]
    Misconfigured(String),
    /// The script failed as a whole. Nothing was charged.
    #[error("the script failed: {0}")]
    Script(String),
    /// A stored row of this check cannot be read. Nothing was charged.
    #[error("a stored row cannot be read: {0}")]
    BadRow(String),
    /// The reply is not one that the script returns.
    #[error("the store's reply is malformed: {0}")]
    BadReply(String),
}

impl StoreError {
    /// The metric label of this error: one of `telemetry::STORE_ERROR_KINDS`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Disk(_) => "disk",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::NewSubject(_) => "full",
            Self::Refused(_) | Self::Misconfigured(_) => "refused",
            Self::Script(_) => "script",
            Self::BadRow(_) => "bad_row",
            Self::BadReply(_) => "bad_reply",
        }
    }
}

/// A store's decision about one check, with its position among all decisions of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreVerdict {
    /// The verdict. Decisions are ordered by its `now`.
    pub verdict: Verdict,
    /// The order among decisions with the same `now` on the same counters: the position in the call,
    /// or a running number.
    pub index: u64,
    /// True if the node has decided the check without a call: it was allowed from leases alone, or a
    /// refusal of a leased limit was repeated.
    pub leased: bool,
}

/// One worker's handle to the store; cheap to clone.
#[derive(Clone)]
pub enum Store {
    /// This process's memory.
    Memory(MemoryStore),
    /// A connection to Redis.
    Redis(RedisClient),
}

impl Store {
    /// Judges one check: in memory at once, in Redis by `deadline`.
    ///
    /// # Errors
    /// If the store did not judge the check. Some variants of [`StoreError`] leave open whether it
    /// was charged.
    pub async fn judge(
        &self,
        charges: &Charges,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        match self {
            Self::Memory(memory) => memory.judge(charges),
            Self::Redis(client) => client.judge(charges, context, deadline).await,
        }
    }

    /// Judges many checks, each on its own, in order.
    pub async fn judge_all(
        &self,
        checks: &[Charges],
        context: &CheckContext,
        deadline: Instant,
    ) -> Vec<Result<StoreVerdict, StoreError>> {
        match self {
            Self::Memory(memory) => checks.iter().map(|charges| memory.judge(charges)).collect(),
            Self::Redis(client) => client.judge_all(checks, context, deadline).await,
        }
    }

    /// Takes the charges of a check that is to open a reservation from leases, as far as leases
    /// cover them: before its terms are made, which say so.
    #[must_use]
    pub fn hold_leases(&self, charges: &Charges) -> HeldLeases {
        match self {
            Self::Memory(_) => HeldLeases::default(),
            Self::Redis(client) => client.hold_leases(charges),
        }
    }

    /// Judges a check and opens a reservation if it is allowed. The charges that `held` covers are
    /// made already, as the reservation's terms say.
    ///
    /// # Errors
    /// As [`Store::judge`]. The reservation may be open: the same call finds out.
    pub async fn reserve(
        &self,
        charges: &Charges,
        reservation: &NewReservation,
        held: HeldLeases,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<ReserveReply, StoreError> {
        match self {
            Self::Memory(memory) => memory.reserve(charges, reservation),
            Self::Redis(client) => {
                client.reserve(charges, reservation, held, context, deadline).await
            }
        }
    }

    /// The reply that a check, or a check that opens `reservation`, would get now. Nothing is
    /// written, and no lease is taken, spent or renewed.
    ///
    /// # Errors
    /// If the store did not judge the check.
    pub async fn dry_run(
        &self,
        charges: &Charges,
        reservation: Option<&NewReservation>,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<ReserveReply, StoreError> {
        match self {
            Self::Memory(memory) => memory.dry_run(charges, reservation),
            Self::Redis(client) => client.dry_run(charges, reservation, context, deadline).await,
        }
    }

    /// Settles, cancels or extends a reservation. `leased` has for each charge the units that were
    /// taken from a lease, as the terms say; it is empty if none were.
    ///
    /// # Errors
    /// If the adjustment failed or may have failed. It may be retried: what is settled is
    /// [`AdjustReply::Unknown`].
    pub async fn adjust(
        &self,
        adjustment: &Adjustment,
        leased: &[Option<LeasedUnits>],
        deadline: Instant,
    ) -> Result<AdjustReply, StoreError> {
        match self {
            // It knows no reservation that has leases.
            Self::Memory(memory) => Ok(memory.adjust(adjustment)),
            Self::Redis(client) => client.adjust(adjustment, leased, deadline).await,
        }
    }

    /// Refunds charges, less what has drained since they were made.
    ///
    /// # Errors
    /// If a refund failed or may have failed. It must not be retried.
    pub async fn refund(&self, refunds: Vec<Refund>, deadline: Instant) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => {
                memory.refund(&refunds);
                Ok(())
            }
            Self::Redis(client) => client.refund(refunds, deadline).await,
        }
    }

    /// True if the contexts of checks are observed; otherwise they need not be read.
    #[must_use]
    pub fn observes_contexts(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Redis(client) => client.observes_contexts(),
        }
    }

    /// Returns two charges that this store cannot judge together, if there are any: both are exact,
    /// and their subjects may lie on different primaries of a Redis Cluster. The last
    /// `key_policies` charges are those under the key's own policies, which can be charged ahead.
    #[must_use]
    pub fn unjudgeable<'c>(
        &self,
        charges: &'c Charges,
        key_policies: usize,
    ) -> Option<(&'c Charge, &'c Charge)> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(client) => client.unjudgeable(charges, key_policies),
        }
    }

    /// Ends this handle before its worker stops. The last one of the node refunds all leases.
    pub async fn retire(&self) {
        if let Self::Redis(client) = self {
            client.retire().await;
        }
    }

    /// The store's time, as this node estimates it.
    #[must_use]
    pub fn now(&self) -> Micros {
        match self {
            Self::Memory(memory) => memory.now(),
            Self::Redis(client) => client.now(),
        }
    }

    /// True once the store could be used for the first time, or from the start if the node is
    /// configured to be ready without it.
    #[must_use]
    pub fn was_reached(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(client) => client.was_reached(),
        }
    }

    /// True while some connection to the store is down, so that the failure policy decides checks;
    /// or while the data directory cannot be used.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        match self {
            Self::Memory(memory) => memory.is_degraded(),
            Self::Redis(client) => client.is_degraded(),
        }
    }
}

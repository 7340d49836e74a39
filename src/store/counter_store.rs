//! The store of counters as the admin API uses it: to read usage and to correct counters.
//!
//! Checks do not come this way: they use `Store`.

use std::sync::Arc;

use super::{MemoryStore, Redis, StoreError};
use crate::algorithm::Correction;
use crate::algorithm::calendar_quota::Count;
use crate::judge::Verdict;
use crate::judge::usage::UsageDays;
use crate::limit::{Charge, Charges};
use crate::time::Micros;

/// The store of counters: this process's memory, or Redis for all nodes.
#[derive(Clone)]
pub enum CounterStore {
    /// This process's memory.
    Memory(MemoryStore),
    /// Redis.
    Redis(Arc<Redis>),
}

/// The stored usage of one counter that tracks days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterUsage {
    /// The count of the day that was charged last, and the same of the plan's counterpart counter,
    /// which was charged instead if the plan has changed since.
    pub counts: [Option<Count>; 2],
    /// The count of the quota whose remaining amount is reported with this usage.
    pub quota: Option<Count>,
    /// The days before.
    pub days: UsageDays,
}

impl CounterStore {
    /// Returns the store's time, and for each charge the stored usage of its counter, or
    /// [`StoreError::BadRow`] if its subject is damaged.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn usage(
        &self,
        charges: &[Charge],
    ) -> Result<(Micros, Vec<Result<CounterUsage, StoreError>>), StoreError> {
        match self {
            Self::Memory(memory) => {
                let (now, usages) = memory.usage(charges);
                Ok((now, usages.into_iter().map(Ok).collect()))
            }
            Self::Redis(redis) => redis.usage(charges).await,
        }
    }

    /// Reads the counters of the charges, whose cost is 0 and whose subject is one. Nothing is
    /// written.
    ///
    /// # Errors
    /// If the store cannot be read, or one of the counters cannot.
    pub async fn peek(&self, charges: &Charges) -> Result<Verdict, StoreError> {
        match self {
            Self::Memory(memory) => memory.judge(charges).map(|judged| judged.verdict),
            Self::Redis(redis) => redis.peek(charges).await,
        }
    }

    /// Makes all corrections or none. Each names its counter by an index into `charges`, which must
    /// be all charges of one subject and plan: days that are over are stored first.
    ///
    /// # Errors
    /// If a correction failed or may have failed. A grant must not simply be retried. A reset
    /// replaces a damaged subject; other corrections of it are [`StoreError::BadRow`].
    pub async fn correct(
        &self,
        charges: &[Charge],
        corrections: &[(usize, Correction)],
    ) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => {
                memory.correct(charges, corrections);
                Ok(())
            }
            Self::Redis(redis) => redis.correct(charges, corrections).await,
        }
    }
}

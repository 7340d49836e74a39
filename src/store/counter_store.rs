//! Where limits are counted, for those who look at counters and correct them: not for checks.

use std::sync::Arc;

use super::{MemoryStore, Redis, StoreError};
use crate::algorithm::calendar_quota::Count;
use crate::algorithm::usage::{Correction, UsageDays};
use crate::limit::Charge;
use crate::time::Micros;

/// This process's memory, or Redis for all nodes.
#[derive(Clone)]
pub enum CounterStore {
    /// This process's memory.
    Memory(MemoryStore),
    /// Redis.
    Redis(Arc<Redis>),
}

/// What is known of a counter whose days are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterUsage {
    /// The day that was charged last; and what the plan's other count says, which may have counted
    /// before the plan was changed.
    pub counts: [Option<Count>; 2],
    /// The quota that is told with it.
    pub quota: Option<Count>,
    /// The days before.
    pub days: UsageDays,
}

impl CounterStore {
    /// What is known of counters whose days are kept, and the store's time.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn usage(
        &self,
        charges: &[Charge],
    ) -> Result<(Micros, Vec<CounterUsage>), StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.usage(charges)),
            Self::Redis(redis) => redis.usage(charges).await,
        }
    }

    /// Corrects counters, each by its place among `charges`, all or none. Days that are over are
    /// kept first; therefore `charges` are all those of one subject and plan.
    ///
    /// # Errors
    /// Where the store perhaps did not; a grant must then not simply be made again.
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

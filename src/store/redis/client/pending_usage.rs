//! The usage of requests that were allowed from leases alone, charged to meters a moment later.
//!
//! Such usage is as exact as leases are: a crash loses what was not sent yet. A call without a
//! reply may have been counted, so it is not sent again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::smallvec;

use crate::limit::{Charge, Charges, CounterId};
use crate::time::MAX_EXACT;

/// The charges to meters that are not sent yet, by counter.
#[derive(Default)]
pub(super) struct PendingUsage(Mutex<HashMap<CounterId, Charge>>);

impl PendingUsage {
    /// Adds a charge; returns true if it is the only one. There are no more counters here than
    /// leases, so the map needs no bound.
    pub(super) fn add(&self, charge: &Charge) -> bool {
        let mut waiting = self.lock();
        let is_first = waiting.is_empty();
        let sum =
            waiting.entry(charge.counter()).or_insert_with(|| Charge { cost: 0, ..charge.clone() });
        sum.cost = sum.cost.saturating_add(charge.cost).min(MAX_EXACT);
        is_first
    }

    /// Takes all charges out, each as a check of its own.
    pub(super) fn take(&self) -> Vec<Charges> {
        let waiting = std::mem::take(&mut *self.lock());
        waiting.into_values().map(|charge| smallvec![charge]).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CounterId, Charge>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

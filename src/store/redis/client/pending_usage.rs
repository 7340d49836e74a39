//! What checks that leases covered have used: counted a moment later, since no call was made.
//!
//! Such usage is as exact as leases are: a crash loses what was not sent yet, and so does a call
//! without an answer, which may have counted and is not made again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use smallvec::smallvec;

use crate::limit::{Charge, Charges};
use crate::time::MAX_EXACT;

/// Charges of meters that are not sent yet, by subject and row.
#[derive(Default)]
pub(super) struct PendingUsage(Mutex<HashMap<([u8; 16], u64), Charge>>);

impl PendingUsage {
    /// One more charge. There are no more counters than leases.
    pub(super) fn add(&self, charge: &Charge) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = (charge.subject.digest(), charge.limit.row().get());
        let sum = waiting.entry(counter).or_insert_with(|| Charge { cost: 0, ..charge.clone() });
        sum.cost = sum.cost.saturating_add(charge.cost).min(MAX_EXACT);
    }

    /// All of it, each as a check.
    pub(super) fn take(&self) -> Vec<Charges> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *waiting).into_values().map(|charge| smallvec![charge]).collect()
    }
}

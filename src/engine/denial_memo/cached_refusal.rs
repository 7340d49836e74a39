//! One cached refusal: the status of its limit at a later time, and the checks that renew it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::algorithm::{CounterState, Counting as _};
use crate::engine::decision::LimitOutcome;
use crate::judge;
use crate::limit::{Charge, Limit};
use crate::time::Micros;

/// The longest time for which checks on their way hold back others.
pub(super) const RENEWAL_TIME: Duration = Duration::from_millis(100);

/// The refusal of a charge.
pub(super) struct CachedRefusal {
    /// Keeps the limit alive, so that no other limit can have its address.
    pub(super) limit: Arc<Limit>,
    pub(super) cost: u64,
    pub(super) state: CounterState,
    pub(super) now: Micros,
    pub(super) made_at: Instant,
    pub(super) until: Instant,
    /// The time at which the charge fits, if nothing else changes; an hour ahead at most.
    pub(super) fits_at: Instant,
    pub(super) renewal: Option<Renewal>,
}

/// The checks of an expired entry's counter that are on their way to the store.
#[derive(Clone, Copy)]
pub(super) struct Renewal {
    pub(super) since: Instant,
    /// The sum of their charges, in the unit of the level.
    pub(super) pending: u64,
}

/// The meaning of an entry for a charge.
pub(super) enum Lookup {
    /// The charge is refused.
    Refused(LimitOutcome),
    /// The store has to judge it.
    Ask,
}

impl CachedRefusal {
    /// True if the entry is of the charge's limit, in the catalog's same revision.
    pub(super) fn is_of(&self, charge: &Charge) -> bool {
        Arc::ptr_eq(&self.limit, &charge.limit)
    }

    /// The charges on their way that renew the entry; `None` if there are none.
    pub(super) fn pending(&self, now: Instant) -> Option<u64> {
        let renewal = self.renewal.filter(|renewal| now < renewal.since + RENEWAL_TIME)?;
        Some(renewal.pending)
    }

    /// The meaning of the entry for a charge; `None` if it has none.
    pub(super) fn evaluate(
        &self,
        charge: &Charge,
        now: Instant,
        max_age: Duration,
    ) -> Option<Lookup> {
        if charge.cost < self.cost || !self.is_of(charge) {
            return None;
        }
        let is_expired = now >= self.until.min(self.made_at + max_age);
        // An expired entry of a quota may be of a window that is over.
        let is_over = charge.limit.calendar().is_some() && now >= self.fits_at;
        let holds_back = !charge.limit.leased() && !is_over;
        let pending = match is_expired {
            false => Some(0),
            true if holds_back => self.pending(now),
            true => None,
        };
        let Some(pending) = pending else { return Some(Lookup::Ask) };
        let age = Micros::new(u64::try_from((now - self.made_at).as_micros()).unwrap_or(u64::MAX));
        // Units granted beyond the limit do not drain.
        let drained = charge.limit.algorithm().drained(age);
        let level = self.state.level;
        let level = level.saturating_sub_unsigned(drained).max(level.min(0));
        let level = level.saturating_add_unsigned(pending);
        let state = CounterState { level, ..self.state };
        let mut status = judge::limit_status(charge, state, false, self.now + age);
        if charge.limit.leased() {
            let left = u64::try_from((self.until - now).as_micros()).unwrap_or(u64::MAX);
            status.fits = false;
            status.retry_after = status.retry_after.max(Micros::new(left));
        }
        let limit = &charge.limit;
        if status.fits {
            return Some(Lookup::Ask);
        }
        Some(Lookup::Refused(LimitOutcome { limit: Arc::clone(limit), status, refuses: true }))
    }
}

//! Leased units of a request that opens a reservation. They are taken before the terms of the
//! reservation are made, since the terms say when the lease was charged.
//!
//! Such a request spends the leases that there are and renews none: it needs a call to Redis in any
//! case, and of what Redis charges to a token bucket more comes back, by low-water marks.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{LeaseOrigin, Leases};
use crate::algorithm::CounterState;
use crate::limit::{Charge, Charges};
use crate::time::Micros;

/// The units that a request has taken from leases. They are put back when this guard is dropped,
/// unless the reservation may be open, which then holds them.
#[derive(Default)]
pub struct HeldLeases {
    charges: Vec<HeldCharge>,
    /// The leases that the units were taken from; `None` if they were only looked at.
    source: Option<Arc<Leases>>,
    is_spent: bool,
}

/// A charge that a lease covers.
struct HeldCharge {
    /// Its position in the check.
    position: usize,
    charge: Charge,
    origin: LeaseOrigin,
    /// The leased units of its counter before it was taken.
    remaining: u64,
}

impl HeldLeases {
    /// Takes the charges that a lease covers.
    pub(in super::super) fn take(charges: &Charges, leases: &Arc<Leases>, clock: Duration) -> Self {
        let mut held = Self::covered(charges, |charge| {
            leases.with_counter(charge, |it| it.take_units(charge.cost, clock)).flatten()
        });
        held.source = (!held.is_empty()).then(|| Arc::clone(leases));
        held
    }

    /// The charges that [`HeldLeases::take`] would take now. Takes nothing.
    pub(in super::super) fn peek(charges: &Charges, leases: &Leases, clock: Duration) -> Self {
        Self::covered(charges, |charge| {
            leases.with_counter(charge, |it| it.peek_units(charge.cost, clock)).flatten()
        })
    }

    fn covered(charges: &Charges, cover: impl Fn(&Charge) -> Option<(u64, LeaseOrigin)>) -> Self {
        let leasable = charges.iter().enumerate();
        let leasable = leasable.filter(|(_, charge)| Leases::is_leasable(charge));
        let covered = leasable.filter_map(|(position, charge)| {
            let (remaining, origin) = cover(charge)?;
            Some(HeldCharge { position, charge: charge.clone(), origin, remaining })
        });
        Self { charges: covered.collect(), source: None, is_spent: false }
    }

    /// True if no lease covers any charge.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.charges.is_empty()
    }

    /// The time, by Redis' clock, at which the lease was charged that covers the request's charge at
    /// `position`; `None` if none does.
    #[must_use]
    pub fn charged_at(&self, position: usize) -> Option<Micros> {
        let held = self.charges.iter().find(|held| held.position == position);
        held.map(|held| held.origin.charged_at)
    }

    /// The charges for the request to Redis: those that a lease covers are looks. Their reservation
    /// may come to more units than were leased, and those are charged to it in Redis.
    pub(in super::super) fn exact_part<'c>(&self, charges: &'c Charges) -> Cow<'c, Charges> {
        let mut exact = Cow::Borrowed(charges);
        for held in &self.charges {
            exact.to_mut()[held.position].cost = 0;
        }
        exact
    }

    /// Says if the units are spent, so that they are not put back.
    pub(in super::super) fn set_spent(&mut self, is_spent: bool) {
        self.is_spent = is_spent;
    }

    /// Counts leased units as remaining in the states that Redis read, which have them as charged.
    /// A counter in debt stays as it is: there the look is refused, whatever is leased.
    pub(in super::super) fn count_as_remaining(&self, states: &mut [CounterState]) {
        for HeldCharge { position, charge, remaining, .. } in &self.charges {
            if let Some(state) = states.get_mut(*position)
                && state.unsigned_level() <= charge.limit.size()
            {
                let leased = charge.limit.amount(*remaining);
                state.level = state.unsigned_level().saturating_sub(leased).cast_signed();
            }
        }
    }
}

impl Drop for HeldLeases {
    fn drop(&mut self) {
        if let Some(source) = self.source.as_ref().filter(|_| !self.is_spent) {
            for held in &self.charges {
                source.put_back(&held.charge, held.origin);
            }
        }
    }
}

//! The replies of a store to reservations; `judge` has the reference that computes them.

use super::StoreVerdict;
use crate::judge::reservation::{AdjustedCharge, Reserved};
use crate::limit::ReservationTerms;
use crate::time::Micros;

/// The reply to a check that opens a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReserveReply {
    /// The check was judged; the reservation is open if the verdict allows it.
    Judged(StoreVerdict),
    /// The same check has opened this reservation before. Nothing was charged; the verdict has the
    /// counters' states as they are now.
    Replayed(StoreVerdict, ReservationTerms),
    /// Another check has opened a reservation of this name, or its ttl is over; nothing was
    /// charged.
    Conflict,
}

impl ReserveReply {
    /// The reply to a check that was at `index` among those with the same time.
    pub(in crate::store) fn new(reserved: Reserved, index: u64) -> Self {
        let judged = |verdict| StoreVerdict { verdict, index, leased: false };
        match reserved {
            Reserved::Judged(verdict) => Self::Judged(judged(verdict)),
            Reserved::Replayed(verdict, terms) => Self::Replayed(judged(verdict), terms),
            Reserved::Conflict => Self::Conflict,
        }
    }
}

/// The reply to an adjustment of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdjustReply {
    /// There is no such reservation, or its terms are others; nothing was charged.
    Unknown,
    /// The charges were adjusted.
    Adjusted(AdjustedReservation),
}

/// A reservation whose charges were adjusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdjustedReservation {
    /// The store's clock.
    pub now: Micros,
    /// The order among decisions with the same `now`; see [`StoreVerdict::index`].
    pub index: u64,
    /// True if the reservation's ttl was over.
    pub is_late: bool,
    /// Its charges in their order.
    pub charges: Vec<AdjustedCharge>,
}

//! Reservations: a check whose charges are adjusted once it is known what was used. The reference;
//! its twin is `lua/reservations.lua`.
//!
//! Reserving charges a check as [`judge`](super::judge) does and keeps a note of it under a name;
//! settling, cancelling and extending adjust those charges. Usage in units, handles and prices are
//! the caller's.
//!
//! Each subject numbers its reservations, and the numbers have a birth tag: where a subject was
//! forgotten and numbers anew, reservations of its earlier life give nothing back.
//!
//! Both operations read all that they need before they write any of it, so a store can tell in
//! between that something could not be read.

mod adjusting;
mod opening;

use smallvec::SmallVec;

use super::{JudgedCharge, Rows, Verdict};
use crate::algorithm::{CounterState, WindowStart};
use crate::limit::{Charge, LATE_SETTLEMENT, ReservationTerms};
use crate::time::Micros;
pub use adjusting::adjust;
pub(crate) use adjusting::{AdjustmentParts, prepare_adjustment, write_adjustment};
pub(crate) use opening::{Prepared, prepare_reserve, write_reserve};
pub use opening::{dry_run, reserve};

/// The numbers of a subject's reservations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationNumbers {
    /// The number of the newest reservation, from 1.
    pub last: u64,
    /// A random tag of this life of the numbers.
    pub birth: [u8; ReservationTerms::SECRET_LEN],
    /// The time, in whole seconds, until which a reservation may be open; later the numbers mean
    /// nothing.
    pub until: Micros,
}

/// A reservation as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptReservation {
    /// The digest of the check that opened it.
    pub check: [u8; 8],
    /// The end of its ttl.
    pub ends: Micros,
    /// The terms.
    pub terms: ReservationTerms,
    /// Its numbers, one of each subject.
    pub numbers: SmallVec<[KeptNumber; 1]>,
    /// The charges in their order.
    pub charges: SmallVec<[KeptCharge; 2]>,
}

/// The number of a reservation among those of one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptNumber {
    /// The number, from 1.
    pub number: u64,
    /// The birth tag of the subject's numbers.
    pub birth: [u8; ReservationTerms::SECRET_LEN],
}

/// A charge of a reservation as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptCharge {
    /// The units charged; `None` if the charge was not made, since a limit in shadow had no room.
    pub units: Option<u64>,
    /// The window charged; 0 if the algorithm has no windows.
    pub window: WindowStart,
    /// The place of its subject's number among [`KeptReservation::numbers`].
    pub place: u8,
}

/// Rows with the numbers of their subjects' reservations.
pub trait NumberedRows<C: JudgedCharge = Charge>: Rows<C> {
    /// The numbers of a subject's reservations.
    fn numbers(&self, subject: C::Subject) -> Option<ReservationNumbers>;
}

/// Rows that keep reservations too.
pub trait ReservationRows<C: JudgedCharge = Charge>: NumberedRows<C> {
    /// The name of a reservation.
    type Name: Copy;

    /// Replaces the numbers of a subject.
    fn write_numbers(&mut self, subject: C::Subject, numbers: ReservationNumbers);
    /// The reservation of this name.
    fn reservation(&self, name: Self::Name) -> Option<KeptReservation>;
    /// Replaces the reservation of this name, or removes it.
    fn write_reservation(&mut self, name: Self::Name, kept: Option<KeptReservation>);
}

/// The outcome of a check that opens a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The check was judged; the reservation is open if the verdict allows it.
    Judged(Verdict),
    /// The same check is open under this name; nothing was charged, and the states are today's.
    Replayed(Verdict, ReservationTerms),
    /// Another check is open under this name, or this one's ttl is over; nothing was charged.
    Conflict,
}

/// The outcome of an adjustment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adjusted {
    /// There is no such reservation.
    Unknown,
    /// The reservation's charges are adjusted.
    Done {
        /// True if its ttl was over.
        is_late: bool,
        /// The charges in their order.
        charges: Vec<AdjustedCharge>,
    },
}

/// A charge of a reservation after an adjustment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdjustedCharge {
    /// The units that were charged before; `None` if the charge was not made, since a limit in
    /// shadow had no room. Such a charge is not adjusted.
    pub charged: Option<u64>,
    /// The state of its counter afterwards; `None` for a limit that no longer exists.
    pub state: Option<CounterState>,
}

/// The reservation of this name, unless it can no longer be settled.
fn kept_reservation<C: JudgedCharge, R: ReservationRows<C>>(
    name: R::Name,
    now: Micros,
    rows: &R,
) -> Option<KeptReservation> {
    rows.reservation(name).filter(|kept| now <= kept.ends + LATE_SETTLEMENT)
}

/// The numbers of a subject, unless they mean nothing any more.
fn numbers_at<C: JudgedCharge>(
    subject: C::Subject,
    now: Micros,
    rows: &impl NumberedRows<C>,
) -> Option<ReservationNumbers> {
    rows.numbers(subject).filter(|numbers| numbers.until >= now)
}

/// The time until which the numbers of a reservation that ends at `ends` matter, in whole seconds.
fn meaningful_until(ends: Micros) -> Micros {
    Micros::from_secs((ends + LATE_SETTLEMENT).as_secs_ceil())
}

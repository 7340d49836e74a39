//! Reservations as an algorithm sees them: charges that are adjusted later, and the annex of a
//! counter, which holds what that takes.
//!
//! The annex lies beside the counter's row, in rows of a kind of its own; a counter that nobody
//! reserves on has none. Names, terms and the numbers of a subject are `judge`'s.

use super::{
    Algorithm, Correction, CounterState, Row, StoredCounter, WindowMiss, WindowStart, Windows,
    Written, dispatch,
};
use crate::time::Micros;

/// A charge that a reservation makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewCharge {
    /// The amount.
    pub amount: u64,
    /// The reservation's number among those of its subject, from 1.
    pub number: u64,
    /// The time for which it is open.
    pub ttl: Micros,
}

/// A charge of a reservation as it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedCharge {
    /// The reservation's number among those of its subject; `None` if the numbers have started anew
    /// since. Such a charge gives nothing back.
    pub number: Option<u64>,
    /// The window charged; 0 if the algorithm has no windows.
    pub window: WindowStart,
    /// The units charged.
    pub units: u64,
}

/// A change of such a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChargeChange {
    /// The units that it comes to.
    pub units: u64,
    /// The time from now for which the reservation is open; `None` if it ends.
    pub open_for: Option<Micros>,
}

/// A counter to store after an adjustment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdjustedCounter {
    /// The row to store; `None` if it stays.
    pub written: Option<Written>,
    /// The annex to store; `None` if it stays.
    pub annex: Option<Vec<u8>>,
    /// The counter's state.
    pub state: CounterState,
}

/// The operations of an algorithm that reservations need. An empty annex is a missing one.
pub trait Reserving {
    /// The annex after a write that reserves nothing: from the row `before`, which read as `level`,
    /// to `written`, whose level may be lower after a refund.
    fn follow(&self, annex: Vec<u8>, before: Option<&Row>, level: i64, written: &Row) -> Vec<u8>;

    /// The row and annex after a charge of a reservation, on a counter that reads as `state`.
    fn reserve(
        &self,
        counter: StoredCounter<'_>,
        state: CounterState,
        charge: NewCharge,
        offered: Option<&Windows>,
        now: Micros,
    ) -> (Written, Vec<u8>);

    /// The counter after a charge of a reservation has changed.
    ///
    /// # Errors
    /// If `now` lies outside the offered windows.
    fn adjust(
        &self,
        counter: StoredCounter<'_>,
        charged: &ReservedCharge,
        change: ChargeChange,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<AdjustedCounter, WindowMiss>;

    /// The annex after an operator's correction of a subject whose newest reservation has `number`;
    /// `None` if it stays.
    fn correct_annex(&self, correction: Correction, number: u64) -> Option<Vec<u8>>;
}

impl Reserving for Algorithm {
    fn follow(&self, annex: Vec<u8>, before: Option<&Row>, level: i64, written: &Row) -> Vec<u8> {
        dispatch!(self, it => it.follow(annex, before, level, written))
    }

    fn reserve(
        &self,
        counter: StoredCounter<'_>,
        state: CounterState,
        charge: NewCharge,
        offered: Option<&Windows>,
        now: Micros,
    ) -> (Written, Vec<u8>) {
        dispatch!(self, it => it.reserve(counter, state, charge, offered, now))
    }

    fn adjust(
        &self,
        counter: StoredCounter<'_>,
        charged: &ReservedCharge,
        change: ChargeChange,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<AdjustedCounter, WindowMiss> {
        dispatch!(self, it => it.adjust(counter, charged, change, offered, now))
    }

    fn correct_annex(&self, correction: Correction, number: u64) -> Option<Vec<u8>> {
        dispatch!(self, it => it.correct_annex(correction, number))
    }
}

/// The number in these bytes of an annex, little-endian; 0 without any.
pub(crate) fn number_in(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

//! Reservations as an algorithm sees them: charges that are adjusted later, and the annex of a
//! counter, which holds what that takes.
//!
//! The annex lies beside the counter's row, in rows of a kind of its own; a counter that nobody
//! reserves on has none. Names, terms and the numbers of a subject are `judge`'s.

use super::{
    Algorithm, Correction, CounterState, Row, WindowMiss, WindowStart, Windows, Written, dispatch,
};
use crate::time::Micros;

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

    /// The row and annex after the charge `amount` of the reservation `number`, on a counter that
    /// reads as `state`.
    fn reserve(
        &self,
        counter: (Option<&Row>, &[u8]),
        state: CounterState,
        amount: u64,
        number: u64,
        offered: Option<&Windows>,
        now: Micros,
    ) -> (Written, Vec<u8>);

    /// The counter after a charge of a reservation has come to `units`.
    ///
    /// # Errors
    /// If `now` lies outside the offered windows.
    fn adjust(
        &self,
        counter: (Option<&Row>, &[u8]),
        charged: &ReservedCharge,
        units: u64,
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
        counter: (Option<&Row>, &[u8]),
        state: CounterState,
        amount: u64,
        number: u64,
        offered: Option<&Windows>,
        now: Micros,
    ) -> (Written, Vec<u8>) {
        dispatch!(self, it => it.reserve(counter, state, amount, number, offered, now))
    }

    fn adjust(
        &self,
        counter: (Option<&Row>, &[u8]),
        charged: &ReservedCharge,
        units: u64,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<AdjustedCounter, WindowMiss> {
        dispatch!(self, it => it.adjust(counter, charged, units, offered, now))
    }

    fn correct_annex(&self, correction: Correction, number: u64) -> Option<Vec<u8>> {
        dispatch!(self, it => it.correct_annex(correction, number))
    }
}

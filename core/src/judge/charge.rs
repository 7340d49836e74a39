//! A charge as judging sees it, whether a node has made it from its catalog or Redis has read it from
//! the arguments of a call.
//!
//! Only how charges are made and carried differs; the decision on them is one.

use crate::algorithm::{
    AdjustedCounter, ChargeChange, ChargeTime, CounterState, Counting as _, NewCharge, Reading,
    ReservedCharge, Reserving as _, Row, StoredCounter, WindowMiss, Windows, Written,
};
use crate::limit::{Charge, ChargeMode, Subject};
use crate::time::Micros;

/// A charge that can be judged: its limit's rules, its amount, and its algorithm.
pub trait JudgedCharge {
    /// The owner of the counter.
    type Subject: Copy + PartialEq;

    /// The same charge of cost 0, which only reads the counter.
    #[must_use]
    fn look(&self) -> Self;

    /// The owner of the counter.
    fn subject(&self) -> Self::Subject;
    /// The amount in the algorithm's parts, at most 2^53 - 1; 0 only reads the counter.
    fn amount(&self) -> u64;
    /// The amount in whole units.
    fn units(&self) -> u64;
    /// True if it is made in any case.
    fn is_forced(&self) -> bool;
    /// The level that must not be exceeded.
    fn size(&self) -> u64;
    /// True if its limit only reports what it would have refused.
    fn is_shadow(&self) -> bool;
    /// True if its limit refuses only if all alternatives of the check refuse.
    fn is_alternative(&self) -> bool;
    /// True if the days of its counter are kept.
    fn tracks_days(&self) -> bool;
    /// True if a store that is nearly full takes no new subject of its limit.
    fn is_open_ended(&self) -> bool;
    /// The time for which the row is kept once it means the same as a missing one.
    fn retention(&self) -> Micros;
    /// True if its counter is read with the annex.
    fn reads_annex(&self) -> bool;

    /// The counter at `now`; see [`Counting::read`](crate::algorithm::Counting::read).
    ///
    /// # Errors
    /// If `now` lies outside the offered windows.
    fn read(
        &self,
        counter: StoredCounter<'_>,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<Reading, WindowMiss>;

    /// The row to write over `before`; see [`Counting::write`](crate::algorithm::Counting::write).
    fn write(
        &self,
        before: Option<&Row>,
        state: CounterState,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Written;

    /// The row after the charge made at `charged` is given back; see
    /// [`Counting::refund`](crate::algorithm::Counting::refund).
    fn refund(&self, row: &Row, charged: ChargeTime, now: Micros) -> Option<Written>;

    /// The annex after a write that reserves nothing; see
    /// [`Reserving::follow`](crate::algorithm::Reserving::follow).
    fn follow(&self, annex: Vec<u8>, before: Option<&Row>, level: i64, written: &Row) -> Vec<u8>;

    /// The row and annex after a charge of a reservation; see
    /// [`Reserving::reserve`](crate::algorithm::Reserving::reserve).
    fn reserve(
        &self,
        counter: StoredCounter<'_>,
        state: CounterState,
        charge: NewCharge,
        offered: Option<&Windows>,
        now: Micros,
    ) -> (Written, Vec<u8>);

    /// The counter after a charge of a reservation has changed; see
    /// [`Reserving::adjust`](crate::algorithm::Reserving::adjust).
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
}

impl JudgedCharge for Charge {
    type Subject = Subject;

    fn look(&self) -> Self {
        Self { cost: 0, mode: ChargeMode::IfFits, ..self.clone() }
    }

    fn subject(&self) -> Subject {
        self.subject
    }

    fn amount(&self) -> u64 {
        self.amount()
    }

    fn units(&self) -> u64 {
        self.cost
    }

    fn is_forced(&self) -> bool {
        self.is_forced()
    }

    fn size(&self) -> u64 {
        self.limit.size()
    }

    fn is_shadow(&self) -> bool {
        self.limit.shadow()
    }

    fn is_alternative(&self) -> bool {
        self.limit.alternative()
    }

    fn tracks_days(&self) -> bool {
        self.limit.tracks_days()
    }

    fn is_open_ended(&self) -> bool {
        self.limit.open_ended()
    }

    fn retention(&self) -> Micros {
        self.limit.retention()
    }

    fn reads_annex(&self) -> bool {
        self.limit.algorithm().slot_ttl().is_some()
    }

    fn read(
        &self,
        counter: StoredCounter<'_>,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<Reading, WindowMiss> {
        self.limit.algorithm().read(counter, offered, now)
    }

    fn write(
        &self,
        before: Option<&Row>,
        state: CounterState,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Written {
        self.limit.algorithm().write(before, state, offered, now)
    }

    fn refund(&self, row: &Row, charged: ChargeTime, now: Micros) -> Option<Written> {
        self.limit.algorithm().refund(row, self.amount(), charged, now)
    }

    fn follow(&self, annex: Vec<u8>, before: Option<&Row>, level: i64, written: &Row) -> Vec<u8> {
        self.limit.algorithm().follow(annex, before, level, written)
    }

    fn reserve(
        &self,
        counter: StoredCounter<'_>,
        state: CounterState,
        charge: NewCharge,
        offered: Option<&Windows>,
        now: Micros,
    ) -> (Written, Vec<u8>) {
        self.limit.algorithm().reserve(counter, state, charge, offered, now)
    }

    fn adjust(
        &self,
        counter: StoredCounter<'_>,
        charged: &ReservedCharge,
        change: ChargeChange,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<AdjustedCounter, WindowMiss> {
        self.limit.algorithm().adjust(counter, charged, change, offered, now)
    }
}

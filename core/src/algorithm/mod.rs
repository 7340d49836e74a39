//! The algorithms by which rate limits count: pure functions of a row, an amount and the time.
//!
//! An algorithm is a file that implements [`Counting`], its entry in [`Algorithm`], and its twin in
//! `lua/`. No other file names the entries: the rest of the service uses the trait. Nothing here
//! does I/O, reads a clock, or knows names, subjects or checks; judging a check is `judge`.
//!
//! # Example
//!
//! ```
//! use tollgate_core::algorithm::{Counting as _, Throttle};
//! use tollgate_core::time::Micros;
//!
//! // 10 units per second, 5 at once.
//! let bucket = Throttle::new("10/s".parse()?, 5)?;
//! let now = Micros::from_secs(1_800_000_000);
//!
//! // A counter without a row is unused. Charge 3 units, and read the row again 100 ms later.
//! let mut state = bucket.read((None, &[]), None, now).unwrap().state;
//! assert_eq!(bucket.remaining(state.unsigned_level()), 5);
//! state.level += i64::try_from(bucket.amount(3))?;
//! let (row, _) = bucket.write(None, state, None, now);
//!
//! let later = now + Micros::new(100_000);
//! let state = bucket.read((Some(&row), &[]), None, later).unwrap().state;
//! assert_eq!(bucket.remaining(state.unsigned_level()), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod calendar;
pub mod calendar_quota;
mod concurrency;
mod counter;
mod marks;
mod rate;
mod reserving;
mod row;
pub(crate) mod slots;
mod throttle;
pub mod token_bucket;
mod window_start;

use serde::{Deserialize, Serialize};

use crate::time::Micros;
pub use calendar::{Calendar, Period, Windows};
pub use calendar_quota::Quota;
pub use concurrency::{Concurrency, InvalidConcurrency};
pub use counter::{
    ChargeTime, Corrected, Correction, CounterState, Forecast, Reading, StoredCounter, WindowMiss,
    Written,
};
pub use rate::{InvalidRate, Rate};
pub(crate) use reserving::number_in;
pub use reserving::{AdjustedCounter, ChargeChange, NewCharge, ReservedCharge, Reserving};
pub use row::{Row, RowKind};
pub use throttle::{InvalidThrottle, Throttle};
pub use window_start::WindowStart;

/// The algorithm of a limit with its sizes. Serialized as `--record` writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Algorithm {
    /// A token bucket.
    #[serde(rename = "throttle")]
    TokenBucket(Throttle),
    /// A number of units per calendar window.
    #[serde(rename = "quota")]
    CalendarQuota(Quota),
    /// A number of slots that reservations hold.
    #[serde(rename = "concurrency")]
    Concurrency(Concurrency),
}

/// The time from which a row means the same as a missing one, if the row says so itself.
type Expiry = fn(&Row) -> Option<Micros>;

/// The kinds of the algorithms' rows. A row whose body has more than 23 bytes must say when it
/// expires: the memory store has no room for its expiry beside it.
const ROW_KINDS: [(RowKind, Expiry); 3] = [
    (RowKind::TOKEN_BUCKET, token_bucket::expiry),
    (RowKind::CONCURRENCY, slots::expiry),
    // The window's end is not stored.
    (RowKind::CALENDAR_QUOTA, |_| None),
];

/// Calls the algorithm that `$algorithm` is, as `$it`.
macro_rules! dispatch {
    ($algorithm:expr, $it:ident => $call:expr) => {
        match $algorithm {
            Algorithm::TokenBucket($it) => $call,
            Algorithm::CalendarQuota($it) => $call,
            Algorithm::Concurrency($it) => $call,
        }
    };
}

use dispatch;

impl From<Throttle> for Algorithm {
    fn from(throttle: Throttle) -> Self {
        Self::TokenBucket(throttle)
    }
}

impl From<Quota> for Algorithm {
    fn from(quota: Quota) -> Self {
        Self::CalendarQuota(quota)
    }
}

impl From<Concurrency> for Algorithm {
    fn from(concurrency: Concurrency) -> Self {
        Self::Concurrency(concurrency)
    }
}

impl Algorithm {
    /// The throttle, if the limit is a token bucket; for the catalog's syntax.
    #[must_use]
    pub fn throttle(&self) -> Option<&Throttle> {
        if let Self::TokenBucket(throttle) = self { Some(throttle) } else { None }
    }

    /// The quota, if the limit is one; for the catalog's syntax.
    #[must_use]
    pub fn quota(&self) -> Option<&Quota> {
        if let Self::CalendarQuota(quota) = self { Some(quota) } else { None }
    }

    /// The slots, if the limit is one of concurrency; for the catalog's syntax.
    #[must_use]
    pub fn concurrency(&self) -> Option<&Concurrency> {
        if let Self::Concurrency(concurrency) = self { Some(concurrency) } else { None }
    }
}

/// The operations of an algorithm.
///
/// A *level* is what the counter holds and an *amount* what a charge adds to it, both in the
/// algorithm's own parts of a unit and below 2^53. A level may exceed [`Counting::size`] (debt).
pub trait Counting: Sized {
    /// The kind of its rows.
    fn row_kind(&self) -> RowKind;

    /// The units that fit at once: the burst, or the quota's limit.
    fn capacity(&self) -> u64;

    /// The level that must not be exceeded.
    fn size(&self) -> u64;

    /// The amount of `cost` units, at most 2^53 - 1.
    fn amount(&self, cost: u64) -> u64;

    /// The whole units that fit on top of `level`.
    fn remaining(&self, level: u64) -> u64 {
        self.size().saturating_sub(level) / self.amount(1)
    }

    /// The whole units by which `level` exceeds the size (debt), rounded up.
    fn debt(&self, level: u64) -> u64 {
        match level.saturating_sub(self.size()) {
            0 => 0,
            over => over.div_ceil(self.amount(1)),
        }
    }

    /// The time in which the capacity renews itself, rounded up; for `RateLimit-Policy`.
    fn window(&self) -> Micros;

    /// The parts of the counter's identity beside its name and unit: neither size nor rate.
    fn identity(&self) -> Vec<Vec<u8>>;

    /// The part of it that one of `nodes` equal nodes may use alone, at least 1 unit.
    #[must_use]
    fn per_node_share(&self, nodes: u64) -> Self;

    /// The calendar of its windows, if it has windows.
    fn calendar(&self) -> Option<&Calendar> {
        None
    }

    /// The longest time for which a reservation holds a slot, if it counts slots. Its counter is
    /// read with the annex, and nothing but a reservation takes a slot.
    fn slot_ttl(&self) -> Option<Micros> {
        None
    }

    /// True if a node may charge it ahead and spend the units from memory: time must give back what
    /// a crash loses.
    fn is_leasable(&self) -> bool {
        false
    }

    /// The part of a level that time takes away in `elapsed`; 0 if only the end of a window does.
    fn drained(&self, _elapsed: Micros) -> u64 {
        0
    }

    /// The time that drains `level`; [`Micros::MAX`] if time does not.
    fn time_to_drain(&self, _level: u64) -> Micros {
        Micros::MAX
    }

    /// The counter at `now`; a missing row is an unused counter. The annex is only read by an
    /// algorithm with [`Counting::slot_ttl`].
    ///
    /// # Errors
    /// If `now` lies outside the offered windows.
    fn read(
        &self,
        counter: StoredCounter<'_>,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<Reading, WindowMiss>;

    /// The row to write over `before` for a counter in this state.
    fn write(
        &self,
        before: Option<&Row>,
        state: CounterState,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Written;

    /// The row after `amount` of the charge made at `charged` is given back: only as much as time
    /// has not given back already. `None` if that is nothing.
    fn refund(&self, row: &Row, amount: u64, charged: ChargeTime, now: Micros) -> Option<Written>;

    /// The counter after an operator's correction; `None` if the correction does not apply.
    /// `granted` returns the units granted so far in the window that begins on a day.
    ///
    /// # Errors
    /// If `now` lies outside the offered windows.
    fn correct(
        &self,
        row: Option<&Row>,
        correction: Correction,
        granted: impl Fn(u64) -> i64,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<Option<Corrected>, WindowMiss>;

    /// The time at which a row was last changed, if it has that.
    fn changed_at(&self, _row: &Row) -> Option<Micros> {
        None
    }

    /// The forecast of a counter that was in the state `before` and now has `level`, for a charge
    /// of `amount`.
    fn forecast(&self, before: CounterState, level: i64, amount: u64, now: Micros) -> Forecast;

    /// The time of a charge as the check script takes it in a refund request.
    fn script_charge_time(&self, charged: ChargeTime) -> u64;

    /// Appends the parameters that the twin's `limit` unpacks. `now` is an estimate of the store's
    /// clock, around which windows are offered.
    fn pack(&self, out: &mut Vec<u8>, now: Micros);
}

impl Counting for Algorithm {
    fn row_kind(&self) -> RowKind {
        dispatch!(self, it => it.row_kind())
    }

    fn capacity(&self) -> u64 {
        dispatch!(self, it => it.capacity())
    }

    fn size(&self) -> u64 {
        dispatch!(self, it => it.size())
    }

    fn amount(&self, cost: u64) -> u64 {
        dispatch!(self, it => it.amount(cost))
    }

    fn window(&self) -> Micros {
        dispatch!(self, it => it.window())
    }

    fn identity(&self) -> Vec<Vec<u8>> {
        dispatch!(self, it => it.identity())
    }

    fn per_node_share(&self, nodes: u64) -> Self {
        dispatch!(self, it => it.per_node_share(nodes).into())
    }

    fn calendar(&self) -> Option<&Calendar> {
        dispatch!(self, it => it.calendar())
    }

    fn slot_ttl(&self) -> Option<Micros> {
        dispatch!(self, it => it.slot_ttl())
    }

    fn is_leasable(&self) -> bool {
        dispatch!(self, it => it.is_leasable())
    }

    fn drained(&self, elapsed: Micros) -> u64 {
        dispatch!(self, it => it.drained(elapsed))
    }

    fn time_to_drain(&self, level: u64) -> Micros {
        dispatch!(self, it => it.time_to_drain(level))
    }

    fn read(
        &self,
        counter: StoredCounter<'_>,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<Reading, WindowMiss> {
        dispatch!(self, it => it.read(counter, offered, now))
    }

    fn write(
        &self,
        before: Option<&Row>,
        state: CounterState,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Written {
        dispatch!(self, it => it.write(before, state, offered, now))
    }

    fn refund(&self, row: &Row, amount: u64, charged: ChargeTime, now: Micros) -> Option<Written> {
        dispatch!(self, it => it.refund(row, amount, charged, now))
    }

    fn correct(
        &self,
        row: Option<&Row>,
        correction: Correction,
        granted: impl Fn(u64) -> i64,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<Option<Corrected>, WindowMiss> {
        dispatch!(self, it => it.correct(row, correction, granted, offered, now))
    }

    fn changed_at(&self, row: &Row) -> Option<Micros> {
        dispatch!(self, it => it.changed_at(row))
    }

    fn forecast(&self, before: CounterState, level: i64, amount: u64, now: Micros) -> Forecast {
        dispatch!(self, it => it.forecast(before, level, amount, now))
    }

    fn script_charge_time(&self, charged: ChargeTime) -> u64 {
        dispatch!(self, it => it.script_charge_time(charged))
    }

    fn pack(&self, out: &mut Vec<u8>, now: Micros) {
        dispatch!(self, it => it.pack(out, now));
    }
}

/// A number as the double that Lua computes with: exact below 2^53.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "whole numbers below 2^53")]
pub fn encode_double(number: u64) -> [u8; 8] {
    (number as f64).to_le_bytes()
}

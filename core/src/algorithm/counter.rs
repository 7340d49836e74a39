//! Counters as algorithms take and return them: stored, as they read at a time, corrected, and
//! their forecasts.
//!
//! The arithmetic is the algorithms'.

use super::{Row, WindowStart};
use crate::time::Micros;

/// The level of a counter just before a check was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterState {
    /// A token bucket's level in `1/per` units, the slots in use, or a quota's used units: below 0
    /// if more than the limit is left.
    pub level: i64,
    /// The current window; 0 if the algorithm has no windows.
    pub window: WindowStart,
    /// The slots that have run out since the counter was last written; 0 if it counts no slots.
    pub expired_slots: u64,
}

impl CounterState {
    /// The state of a counter without windows and slots.
    #[must_use]
    pub const fn of_level(level: i64) -> Self {
        Self::in_window(level, WindowStart::new(0))
    }

    /// The state of a counter in this window.
    #[must_use]
    pub const fn in_window(level: i64, window: WindowStart) -> Self {
        Self { level, window, expired_slots: 0 }
    }

    /// The level of a counter whose level is never below 0.
    #[must_use]
    pub fn unsigned_level(&self) -> u64 {
        self.level.unsigned_abs()
    }
}

/// A row as it reads at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The counter's state.
    pub state: CounterState,
    /// True if the clock has stepped back behind the row's last write. Such a row is written again
    /// by every call that reads it, so that its level drains from now on; otherwise a full bucket
    /// would stay full until the clock has caught up.
    pub is_ahead: bool,
    /// True if the row belongs to an earlier window, which the next write replaces.
    pub is_rollover: bool,
}

/// The store's clock lies outside the windows that the node offered; nothing was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowMiss;

/// The time of a charge, as a refund states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChargeTime {
    /// The store's clock at the charge.
    pub at: Micros,
    /// The window charged; 0 if the algorithm has no windows.
    pub window: WindowStart,
}

/// An operator's correction of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// Sets a quota's remaining units.
    SetRemaining(u64),
    /// Adds units to what remains of a quota.
    Grant(u64),
    /// Takes units that were not used off a quota's count.
    Refund(u64),
    /// Starts the window of a quota anew, or empties a token bucket.
    Reset,
}

/// The row to store, and the time from which a missing row means the same.
pub type Written = (Row, Micros);

/// A corrected counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrected {
    /// The row to store, and the time from which a missing row means the same.
    pub written: Written,
    /// The first day of the window in days since 1970, and the units granted in it by this
    /// correction.
    pub granted: Option<(u64, i64)>,
}

/// The forecast of a counter, for responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Whole units left.
    pub remaining: u64,
    /// Time until the token bucket is empty, the window ends, or all slots have run out.
    pub reset: Micros,
    /// Time until the amount fits, if it can fit at all.
    pub wait: Micros,
    /// Time until one more unit is left than now.
    pub next_unit: Micros,
}

/// A counter as it is stored: its row, and its annex, which is empty if it is missing.
pub type StoredCounter<'c> = (Option<&'c Row>, &'c [u8]);

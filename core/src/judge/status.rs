//! The status of one limit after a check, as responses report it: what is left, and the times.
//!
//! It follows from the state that the store read; nothing here reads or writes a counter.

use super::{fits, level_after};
use crate::algorithm::{CounterState, Counting as _};
use crate::limit::Charge;
use crate::time::Micros;

/// One limit as a response reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// True if the charge fitted.
    pub fits: bool,
    /// Whole units left: after the charge if it was made, else unchanged.
    pub remaining: u64,
    /// Whole units over the limit's size, rounded up: after the charge if it was made.
    pub debt: u64,
    /// Time until the token bucket is empty, or the window ends.
    pub reset: Micros,
    /// Time until this cost fits: zero if it did, [`Micros::MAX`] if it never will. After a charge
    /// that was made without room, the time until its debt is paid.
    pub retry_after: Micros,
    /// Time until one more unit is left than now; for a quota until the window ends.
    pub next_unit: Micros,
}

/// The status of one limit; `made` is true if the charge was made.
#[must_use]
pub fn limit_status(charge: &Charge, state: CounterState, made: bool, now: Micros) -> LimitStatus {
    let level = if made { level_after(charge, state) } else { state.level };
    let algorithm = charge.limit.algorithm();
    let forecast = algorithm.forecast(state, level, charge.amount(), now);
    let fits = fits(charge, state);
    let retry_after = match () {
        () if fits => Micros::ZERO,
        () if charge.exceeds_capacity() && !made => Micros::MAX,
        // As long as until the debt is paid, if the charge was made.
        () => forecast.wait,
    };
    let debt = algorithm.debt(u64::try_from(level).unwrap_or(0));
    let (remaining, reset, next_unit) = (forecast.remaining, forecast.reset, forecast.next_unit);
    LimitStatus { fits, remaining, debt, reset, retry_after, next_unit }
}

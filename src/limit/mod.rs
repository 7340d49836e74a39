//! The vocabulary: limits, subjects, costs and charges.
//!
//! Everything here is a value that is valid once it exists. Nothing here does I/O, knows a store
//! or decides: deciding is `algorithm`.

mod calendar;
mod definition;
mod identity;
mod rate;
mod window_start;
mod daily_usage;
mod throttle;

use std::fmt;
use std::sync::Arc;

pub use calendar::{Calendar, Period, Windows};
pub use daily_usage::{DailyUsage, USAGE_RETENTION_DAYS};
pub use definition::Limit;
pub use identity::{RowId, Subject};
pub use rate::{InvalidRate, Rate};
pub use throttle::{InvalidThrottle, Throttle};
pub use window_start::WindowStart;

use smallvec::SmallVec;

use crate::time::{MAX_EXACT, Micros};

/// The largest cost that a check may ask for: 2^53.
pub const MAX_COST: u64 = MAX_EXACT + 1;

/// What is counted: `requests`, `total_tokens`, or any name that a limit declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit(Arc<str>);

impl Unit {
    /// The units that exist in every catalog; the first is the one that a check costs by default.
    pub const BUILT_IN: [&'static str; 5] =
        ["requests", "input_tokens", "output_tokens", "total_tokens", "cost_microusd"];

    /// A unit by its name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// `requests`.
    #[must_use]
    pub fn requests() -> Self {
        Self::new(Self::BUILT_IN[0])
    }

    /// The unit's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// So many units in every calendar window.
#[derive(Clone, Debug)]
pub struct Quota {
    /// Units per window, 1 to 2^53 - 1.
    pub limit: u64,
    /// Which windows.
    pub calendar: Arc<Calendar>,
}

/// How a limit limits.
#[derive(Clone, Debug)]
pub enum Algorithm {
    /// A token bucket.
    TokenBucket(Throttle),
    /// A number per calendar window.
    CalendarQuota(Quota),
}

/// All charges of one check; two on the stack, since most checks meet a throttle and a quota.
pub type Charges = SmallVec<[Charge; 2]>;

/// One cost against one limit of one subject.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Whose counter.
    pub subject: Subject,
    /// Which limit.
    pub limit: Arc<Limit>,
    /// How much, in the limit's unit; 0 only looks.
    pub cost: u64,
}

impl Charge {
    /// Whether this could not pass even if the subject had used nothing.
    #[must_use]
    pub fn exceeds_capacity(&self) -> bool {
        self.cost > self.limit.capacity()
    }

    /// What this adds to the counter; see [`Limit::amount`].
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.limit.amount(self.cost)
    }
}

/// Units of a charge that were not used, to be given back.
#[derive(Clone, Debug)]
pub struct Refund {
    /// What is given back, as a charge of so much.
    pub charge: Charge,
    /// The store's clock when it was charged.
    pub charged_at: Micros,
    /// The window it was charged in; 0 for a throttle.
    pub window: WindowStart,
}

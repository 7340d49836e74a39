//! The vocabulary of a check request: units, subjects, limits, costs and charges.
//!
//! Every value is valid once it exists. Nothing here does I/O, knows a store or decides: deciding
//! is `judge`, and the arithmetic of a limit is its `algorithm`.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use tollgate_core::algorithm::Throttle;
//! use tollgate_core::limit::{Charge, Limit, Subject, Unit};
//!
//! let throttle = Throttle::new("100000/min".parse()?, 2_000)?;
//! let limit = Arc::new(Limit::new("free/tpm", Unit::new("total_tokens"), throttle, false));
//!
//! let charge = Charge::new(Subject::api_key("alice"), Arc::clone(&limit), 350);
//! assert!(!charge.exceeds_capacity());
//! // The store's counter depends on the limit's name, unit and algorithm, not on its size.
//! let larger = limit.resized(Throttle::new("200000/min".parse()?, 4_000)?.into());
//! assert_eq!(larger.row(), limit.row());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod daily_usage;
mod definition;
mod identity;
mod model_pattern;
mod reservation;

use std::fmt;
use std::sync::Arc;

pub use daily_usage::{DailyUsage, USAGE_RETENTION_DAYS};
pub use definition::Limit;
pub use identity::{CounterId, RowId, Subject};
pub use model_pattern::ModelPattern;
pub use reservation::{
    AdjustedUnits, Adjustment, AdjustmentKind, ChargeAdjustment, LATE_SETTLEMENT, LeasedUnits,
    MAX_RESERVED_SUBJECTS, NewReservation, ReservationName, ReservationTerms,
};

use smallvec::SmallVec;

use crate::algorithm::ChargeTime;
use crate::time::MAX_EXACT;

/// The largest cost of a check: 2^53.
pub const MAX_COST: u64 = MAX_EXACT + 1;

/// The most charges in one check. Larger numbers are operations in the check script.
pub const MAX_CHARGES: usize = 250;

/// The unit in which a limit counts: `requests`, `total_tokens`, or any name that a limit declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit(Arc<str>);

impl Unit {
    /// The default unit of a cost.
    pub const REQUESTS: &'static str = "requests";
    /// Tokens of the input, those from a cache included.
    pub const INPUT_TOKENS: &'static str = "input_tokens";
    /// Tokens of the output.
    pub const OUTPUT_TOKENS: &'static str = "output_tokens";
    /// Tokens of input and output.
    pub const TOTAL_TOKENS: &'static str = "total_tokens";
    /// Millionths of a US dollar.
    pub const COST_MICROUSD: &'static str = "cost_microusd";
    /// The units that exist in every catalog.
    pub const BUILT_IN: [&'static str; 5] = [
        Self::REQUESTS,
        Self::INPUT_TOKENS,
        Self::OUTPUT_TOKENS,
        Self::TOTAL_TOKENS,
        Self::COST_MICROUSD,
    ];

    /// A unit by its name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// `requests`.
    #[must_use]
    pub fn requests() -> Self {
        Self::new(Self::REQUESTS)
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

/// All charges of one check; two on the stack, since most checks have a throttle and a quota.
pub type Charges = SmallVec<[Charge; 2]>;

/// The condition under which a charge is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChargeMode {
    /// Made if every limit of the check that refuses has room, and this one too.
    #[default]
    IfFits,
    /// Made in any case, since the units have been used already. The counter may then exceed its
    /// limit (debt). A limit without room still refuses the other charges of the check.
    Always,
}

/// One cost against one limit of one subject.
#[derive(Clone, Debug)]
pub struct Charge {
    /// The subject, whose counter is charged.
    pub subject: Subject,
    /// The limit.
    pub limit: Arc<Limit>,
    /// The cost in the limit's unit; 0 only reads the counter.
    pub cost: u64,
    /// The condition.
    pub mode: ChargeMode,
}

impl Charge {
    /// A charge that is made if it fits.
    #[must_use]
    pub fn new(subject: Subject, limit: Arc<Limit>, cost: u64) -> Self {
        Self { subject, limit, cost, mode: ChargeMode::IfFits }
    }

    /// True if it is made in any case.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.mode == ChargeMode::Always
    }

    /// True if it would not fit into an unused counter either.
    #[must_use]
    pub fn exceeds_capacity(&self) -> bool {
        self.cost > self.limit.capacity()
    }

    /// The amount added to the counter; see [`Limit::amount`].
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.limit.amount(self.cost)
    }

    /// The counter that is charged.
    #[must_use]
    pub fn counter(&self) -> CounterId {
        CounterId::new(self.subject, self.limit.row())
    }
}

/// Units of a charge that were not used, to be given back.
#[derive(Clone, Debug)]
pub struct Refund {
    /// The refunded units, as a charge of that cost.
    pub charge: Charge,
    /// The time of the original charge.
    pub charged: ChargeTime,
}

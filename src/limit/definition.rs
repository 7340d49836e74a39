//! A limit: one rule in one unit, and what answers, counters and metrics call it.
//!
//! How a charge against it is judged is `algorithm`'s.

use std::sync::Arc;

use super::{DailyUsage, RowId, Unit};
use crate::algorithm::{Algorithm, Calendar, Counting as _};
use crate::time::Micros;

/// Whether something may come back to a counter before time gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refunds {
    /// Never: a refusal stays true until its Retry-After.
    Never,
    /// At any time.
    AnyTime,
    /// What a node has charged ahead and not spent.
    Leased,
}

/// One rule in one unit, under the name by which answers speak of it.
#[derive(Debug)]
pub struct Limit {
    pub(super) name: Arc<str>,
    pub(super) label: Arc<str>,
    pub(super) unit: Unit,
    pub(super) algorithm: Algorithm,
    pub(super) shadow: bool,
    pub(super) alternative: bool,
    pub(super) refunds: Refunds,
    pub(super) daily_usage: DailyUsage,
    pub(super) row: RowId,
}

impl Limit {
    /// A limit that refuses, or with `shadow` one that only reports.
    #[must_use]
    pub fn new(name: &str, unit: Unit, algorithm: impl Into<Algorithm>, shadow: bool) -> Self {
        let algorithm = algorithm.into();
        let row = RowId::for_limit(name, &unit, &algorithm);
        let name = Arc::<str>::from(name);
        Self {
            label: Arc::clone(&name),
            name,
            unit,
            algorithm,
            shadow,
            alternative: false,
            refunds: Refunds::Never,
            daily_usage: DailyUsage::Untracked,
            row,
        }
    }

    /// The same, to refuse only where all alternatives of a check do.
    #[must_use]
    pub fn as_alternative(self) -> Self {
        Self { alternative: true, ..self }
    }

    /// The same, whose counter may be given something back at any time.
    #[must_use]
    pub fn as_refundable(self) -> Self {
        Self { refunds: Refunds::AnyTime, ..self }
    }

    /// The same, to be spent from leases where the store can.
    #[must_use]
    pub fn as_leased(self) -> Self {
        Self { refunds: Refunds::Leased, ..self }
    }

    /// The same rule and counter under another name, for one of the methods that a `*` stands for.
    ///
    /// Their subjects keep such methods apart, so the counter's identity stays the declared one.
    #[must_use]
    pub fn renamed(&self, name: &str) -> Self {
        Self {
            name: name.into(),
            label: Arc::clone(&self.label),
            unit: self.unit.clone(),
            algorithm: self.algorithm.clone(),
            daily_usage: DailyUsage::Untracked,
            ..*self
        }
    }

    /// The same limit and counter in another size; `algorithm` is of its kind, unit and window.
    #[must_use]
    pub fn resized(&self, algorithm: Algorithm) -> Self {
        Self {
            name: Arc::clone(&self.name),
            label: Arc::clone(&self.label),
            unit: self.unit.clone(),
            algorithm,
            daily_usage: self.daily_usage.clone(),
            ..*self
        }
    }

    /// The part of this limit that one of `nodes` equal sharers may use alone: never less than 1
    /// where there is anything to share.
    #[must_use]
    pub fn per_node_share(&self, nodes: u64) -> Self {
        Self { algorithm: self.algorithm.per_node_share(nodes), ..self.renamed(&self.name) }
    }

    /// Its name in answers, such as `free/throttle`.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its name in the catalog, for metrics: unlike [`Limit::name`] never made up by a client.
    #[must_use]
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Whether a catalog lists it by this name: not where it was made for one check, as of a method that a
    /// `*` stands for. Such a one never comes again.
    #[must_use]
    pub fn is_declared(&self) -> bool {
        Arc::ptr_eq(&self.name, &self.label)
    }

    /// What it counts.
    #[must_use]
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// How it limits.
    #[must_use]
    pub fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }

    /// Whether it only reports what it would have refused.
    #[must_use]
    pub fn shadow(&self) -> bool {
        self.shadow
    }

    /// Whether it refuses only where all alternatives of the check do: a check may then pass that
    /// it has no room for, uncharged here. One in shadow refuses never, so neither do the others.
    #[must_use]
    pub fn alternative(&self) -> bool {
        self.alternative
    }

    /// Whether it refuses on its own what it has no room for.
    #[must_use]
    pub fn refuses_alone(&self) -> bool {
        !self.shadow && !self.alternative
    }

    /// Whether something may be given back at any time, so that a refusal is not final.
    #[must_use]
    pub fn refundable(&self) -> bool {
        self.refunds != Refunds::Never
    }

    /// Whether nodes may charge it ahead and spend from memory.
    #[must_use]
    pub fn leased(&self) -> bool {
        self.refunds == Refunds::Leased
    }

    /// Which of its subject's counters is this limit's.
    #[must_use]
    pub fn row(&self) -> RowId {
        self.row
    }

    /// The calendar of the limit's windows, if it has windows.
    #[must_use]
    pub fn calendar(&self) -> Option<&Calendar> {
        self.algorithm.calendar()
    }

    /// The units that fit at once: the burst, or the quota's limit.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.algorithm.capacity()
    }

    /// The level that the counter must not exceed: the full bucket in `1/per` units, or the quota's
    /// limit.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.algorithm.size()
    }

    /// The amount that `cost` units add to the counter, in the same parts, at most 2^53 - 1.
    #[must_use]
    pub fn amount(&self, cost: u64) -> u64 {
        self.algorithm.amount(cost)
    }

    /// The time in which the capacity renews itself, rounded up; for `RateLimit-Policy`.
    #[must_use]
    pub fn window(&self) -> Micros {
        self.algorithm.window()
    }
}

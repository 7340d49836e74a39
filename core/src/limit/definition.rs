//! A limit: an algorithm with its sizes in one unit, and its names in responses, counters and
//! metrics.
//!
//! Judging a charge against it is `judge`'s, the arithmetic its algorithm's.

use std::sync::Arc;

use super::{DailyUsage, ModelPattern, RowId, Unit};
use crate::algorithm::{Algorithm, Calendar, Counting as _};
use crate::time::Micros;

/// The refunds that a counter may get before time returns the units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refunds {
    /// None: a refusal holds until its Retry-After.
    Never,
    /// Refunds at any time.
    AnyTime,
    /// Refunds of leased units that a node has not spent.
    Leased,
}

/// A limit under the name by which responses refer to it.
#[derive(Debug)]
pub struct Limit {
    pub(super) name: Arc<str>,
    pub(super) label: Arc<str>,
    pub(super) unit: Unit,
    pub(super) algorithm: Algorithm,
    pub(super) shadow: bool,
    pub(super) alternative: bool,
    pub(super) refunds: Refunds,
    pub(super) open_ended: bool,
    /// The limit of subjects that a node has not met.
    pub(super) new_subjects: Option<Arc<Self>>,
    pub(super) daily_usage: DailyUsage,
    /// The models that it counts; `None` counts all.
    pub(super) models: Option<Arc<[ModelPattern]>>,
    pub(super) row: RowId,
}

impl Limit {
    /// A limit that refuses requests, or with `shadow` one that only reports them.
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
            open_ended: false,
            new_subjects: None,
            daily_usage: DailyUsage::Untracked,
            models: None,
            row,
        }
    }

    /// The same limit, refusing only if all alternatives of a check refuse.
    #[must_use]
    pub fn as_alternative(self) -> Self {
        Self { alternative: true, ..self }
    }

    /// The same limit, whose counter may get refunds at any time.
    #[must_use]
    pub fn as_refundable(self) -> Self {
        Self { refunds: Refunds::AnyTime, ..self }
    }

    /// The same limit, spent from leases if the store supports them.
    #[must_use]
    pub fn as_leased(self) -> Self {
        Self { refunds: Refunds::Leased, ..self }
    }

    /// The same limit, whose subjects are made up by the callers of checks, so that their number
    /// has no bound.
    #[must_use]
    pub fn as_open_ended(self) -> Self {
        Self { open_ended: true, ..self }
    }

    /// The same limit for subjects that an operator has declared.
    #[must_use]
    pub fn as_declared(self) -> Self {
        Self { open_ended: false, new_subjects: None, ..self }
    }

    /// The same limit, of which each node charges every subject that is new to it to `limit` first.
    #[must_use]
    pub fn with_new_subjects(self, limit: Arc<Self>) -> Self {
        Self { new_subjects: Some(limit), ..self }
    }

    /// The same limit and counter, applied only to checks of these models, and to those that name
    /// no model.
    #[must_use]
    pub fn with_models(self, models: Arc<[ModelPattern]>) -> Self {
        Self { models: Some(models), ..self }
    }

    /// The same limit and counter under another name, for one of the methods that a `*` matches.
    ///
    /// Such methods have subjects of their own, so the counter keeps the declared limit's identity.
    #[must_use]
    pub fn renamed(&self, name: &str) -> Self {
        Self {
            name: name.into(),
            label: Arc::clone(&self.label),
            unit: self.unit.clone(),
            algorithm: self.algorithm.clone(),
            daily_usage: DailyUsage::Untracked,
            models: self.models.clone(),
            new_subjects: self.new_subjects.clone(),
            ..*self
        }
    }

    /// The same limit and counter in another size; `algorithm` is of the same kind and windows.
    #[must_use]
    pub fn resized(&self, algorithm: Algorithm) -> Self {
        Self {
            name: Arc::clone(&self.name),
            label: Arc::clone(&self.label),
            unit: self.unit.clone(),
            algorithm,
            daily_usage: self.daily_usage.clone(),
            models: self.models.clone(),
            new_subjects: self.new_subjects.clone(),
            ..*self
        }
    }

    /// The part of this limit that one of `nodes` equal nodes may use alone: at least 1 unit if the
    /// limit has any.
    #[must_use]
    pub fn per_node_share(&self, nodes: u64) -> Self {
        Self { algorithm: self.algorithm.per_node_share(nodes), ..self.renamed(&self.name) }
    }

    /// The name in responses, such as `free/throttle`.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The name in the catalog, for metric labels: no part of it comes from a client, unlike
    /// [`Limit::name`].
    #[must_use]
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// True if the catalog lists it by this name. False if it was made for one check, for a method
    /// that a `*` matches; no other check refers to the same value.
    #[must_use]
    pub fn is_declared(&self) -> bool {
        Arc::ptr_eq(&self.name, &self.label)
    }

    /// The unit that it counts in.
    #[must_use]
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// The algorithm with its sizes.
    #[must_use]
    pub fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }

    /// True if it applies to checks of any model.
    #[must_use]
    pub fn counts_all_models(&self) -> bool {
        self.models.is_none()
    }

    /// True if it applies to checks of this model.
    #[must_use]
    pub fn counts_model(&self, model: &str) -> bool {
        let matches = |models: &[ModelPattern]| models.iter().any(|it| it.matches(model));
        self.models.as_deref().is_none_or(matches)
    }

    /// True if it only reports requests that it would have refused.
    #[must_use]
    pub fn shadow(&self) -> bool {
        self.shadow
    }

    /// True if it refuses only if all alternatives of the check refuse. A check may then pass
    /// without room here, uncharged. An alternative in shadow never refuses, so the others do not
    /// either.
    #[must_use]
    pub fn alternative(&self) -> bool {
        self.alternative
    }

    /// True if a charge without room makes this limit refuse the check, whatever the others do.
    #[must_use]
    pub fn refuses_alone(&self) -> bool {
        !self.shadow && !self.alternative
    }

    /// True if refunds may come at any time, so that a cached refusal may become stale.
    #[must_use]
    pub fn refundable(&self) -> bool {
        self.refunds != Refunds::Never
    }

    /// True if callers make up its subjects. A store that is nearly full takes no new ones of them.
    #[must_use]
    pub fn open_ended(&self) -> bool {
        self.open_ended
    }

    /// The limit of subjects that a node has not met, one unit for each; `None` if they are not
    /// limited.
    #[must_use]
    pub fn new_subjects(&self) -> Option<&Arc<Self>> {
        self.new_subjects.as_ref()
    }

    /// True if nodes may lease it: charge it ahead and spend the units from memory.
    #[must_use]
    pub fn leased(&self) -> bool {
        self.refunds == Refunds::Leased
    }

    /// The row of its counter among its subject's.
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

    /// The level that the counter must not exceed: the full token bucket in `1/per` units, or the
    /// quota's limit.
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

//! The options of a limit beside its algorithm: consistency, mode, and whether it can be refunded.

use serde::{Deserialize, Serialize};

/// The consistency of a limit that several nodes share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", remote = "Self")]
pub enum Consistency {
    /// Each check is charged in the store.
    #[default]
    Exact,
    /// Nodes lease part of the limit and charge checks to the lease.
    Leased,
}

crate::syntax::read_from_text_only!(Consistency);

/// The effect of a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", remote = "Self")]
pub enum Mode {
    /// The request is refused.
    #[default]
    Enforce,
    /// The request is admitted, and the refusal is only reported.
    Shadow,
}

crate::syntax::read_from_text_only!(Mode);

/// The options of one limit, or the defaults for the limits of one owner.
#[derive(Clone, Copy, Default)]
pub(super) struct LimitOptions {
    pub(super) consistency: Consistency,
    pub(super) mode: Mode,
    /// True if the admin API may reset, grant and refund the counters.
    pub(super) refundable: bool,
    /// True if the callers of checks make up the subjects.
    pub(super) open_ended: bool,
}

impl LimitOptions {
    /// These options, with those that a limit sets itself in their place.
    pub(super) fn or_own(self, consistency: Option<Consistency>, mode: Option<Mode>) -> Self {
        Self {
            consistency: consistency.unwrap_or(self.consistency),
            mode: mode.unwrap_or(self.mode),
            ..self
        }
    }
}

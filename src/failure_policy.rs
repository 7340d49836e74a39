//! The failure policy: the decision of a check when the store cannot judge it.
//!
//! Configured by plans, policies and settings; carried out by `engine`.

/// The decision when the store cannot be reached in time. If several apply, the greatest wins.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Deserialize,
    serde::Serialize,
)]
#[serde(rename_all = "lowercase", remote = "Self")]
pub enum FailurePolicy {
    /// Every request is admitted.
    #[default]
    Open,
    /// Each node admits its own share of the limits, counted in its memory.
    Local,
    /// Every request is refused.
    Closed,
}

crate::syntax::read_from_text_only!(FailurePolicy);

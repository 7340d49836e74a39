//! AI inference: the tokens that a model used, and the costs that follow from them.
//!
//! Whole numbers only. Checks, limits and the catalog's syntax are not known here, nor are tokens
//! counted: a provider's usage object says how many there were.

mod usage;

pub use usage::{MAX_ACTUAL, MAX_ESTIMATE, ProviderUsage, TokenUsage};

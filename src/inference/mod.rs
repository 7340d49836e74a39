//! AI inference: the tokens that a model used, and the costs that follow from them.
//!
//! Whole numbers only, and each sum is rounded up once. Checks, stores and the catalog's syntax are
//! not known here. Tokens are not counted either: a provider's usage object says how many there
//! were.

mod pricing;
mod usage;
mod weights;

pub use pricing::{Model, Pricing};
pub use usage::{MAX_ACTUAL, MAX_ESTIMATE, ProviderUsage, TokenUsage};
pub use weights::Weights;

//! What operators see: metrics and logs.
//!
//! Nothing here decides or knows a request. Labels come from the catalog or from enums, never from
//! what a client sent; a secret never comes here at all.

mod logs;
mod metrics;
mod register;
mod webhooks;
mod worker;

pub use logs::{LogThrottle, init_logs};
pub use metrics::{DecisionOutcome, Metrics, STORE_ERROR_KINDS};
pub use webhooks::{DeliveryOutcome, WebhookMetrics};
pub use worker::WorkerMetrics;

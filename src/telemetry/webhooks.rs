//! The metrics of webhooks.

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::register::{counter_vec, opts, register};

/// The outcome of an attempt to deliver a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver has accepted it.
    Delivered,
    /// The attempt failed and is retried.
    Failed,
    /// The attempt failed and is not retried.
    GivenUp,
}

impl DeliveryOutcome {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
        }
    }
}

/// The metrics of webhooks.
pub struct WebhookMetrics {
    /// `tollgate_webhook_deliveries_total{outcome}`
    deliveries: IntCounterVec,
    /// `tollgate_webhooks_waiting`
    pub waiting: IntGauge,
}

impl WebhookMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let help = "Attempts to deliver a webhook, by outcome.";
        let deliveries = counter_vec(registry, "webhook_deliveries_total", help, &["outcome"]);
        for outcome in
            [DeliveryOutcome::Delivered, DeliveryOutcome::Failed, DeliveryOutcome::GivenUp]
        {
            deliveries.with_label_values(&[outcome.as_str()]);
        }
        let help = "Webhooks of all nodes that wait to be delivered, as this node last saw.";
        let waiting = register(registry, IntGauge::with_opts(opts("webhooks_waiting", help)));
        Self { deliveries, waiting }
    }

    /// The attempts so far with this outcome.
    pub(super) fn attempts(&self, outcome: DeliveryOutcome) -> u64 {
        self.deliveries.with_label_values(&[outcome.as_str()]).get()
    }

    /// Counts an attempt.
    pub fn record_attempt(&self, outcome: DeliveryOutcome) {
        self.deliveries.with_label_values(&[outcome.as_str()]).inc();
    }
}

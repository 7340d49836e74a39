//! Refusals in the log, for `--log-refusals`: a sample at level info, and how many it left out.
//!
//! Fields hold what a client wrote as the log's format escapes it.

use std::sync::Arc;
use std::time::Duration;

use super::{MissedEvents, Tail, TailFilter};

/// The interval at which the refusals that were not logged are counted.
const MISSED_INTERVAL: Duration = Duration::from_secs(10);

impl Tail {
    /// Logs at most `rate` refusals a second. Returns only if the rate is 0.
    pub async fn log_refusals(self: Arc<Self>, rate: u32) {
        let wanted = (rate > 0).then(TailFilter::default);
        let Some(mut subscription) = wanted.and_then(|filter| self.subscribe(filter, rate)) else {
            return;
        };
        let mut ticks = tokio::time::interval(MISSED_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                events = subscription.read() => for event in events {
                    tracing::info!(
                        outcome = event.outcome.as_str(),
                        key_id = event.key_id.as_deref(),
                        key = event.key.as_deref(),
                        plan = event.plan.as_deref(),
                        limit = event.limit.as_deref(),
                        method = event.method.as_deref(),
                        pattern = event.pattern.as_deref(),
                        retry_after_ms = event.retry_after_ms(),
                        decided_by = event.decided_by.as_str(),
                        request_id = event.request_id.as_deref(),
                        "a check was refused"
                    );
                },
                _ = ticks.tick() => {
                    let MissedEvents { sampled_out, dropped } = subscription.take_missed();
                    if sampled_out + dropped > 0 {
                        let refusals = sampled_out + dropped;
                        tracing::info!(refusals, "more checks were refused than --log-refusals logs");
                    }
                }
            }
        }
    }
}

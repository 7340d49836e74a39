//! The newest attempts of this node to deliver a webhook, for the admin API.
//!
//! The receiver's address and what it responded, other than its status, are not kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::telemetry::DeliveryOutcome;

/// The number of newest attempts that are kept.
const MAX_ATTEMPTS: usize = 20;

/// An attempt to deliver an event.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryAttempt {
    /// The time of its result, in seconds since 1970.
    at: u64,
    /// The id of the event.
    id: String,
    /// The result: `delivered`, `failed` or `given_up`.
    outcome: &'static str,
    /// The number of the attempt, from 1.
    attempt: usize,
    /// The reason why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// The data of the event: the API key's id, its plan and limit, and the threshold in percent.
    data: serde_json::Value,
}

impl DeliveryAttempt {
    /// An attempt with this result just now. `body` is that of the event.
    #[must_use]
    pub fn new(
        (id, attempt): (&str, usize),
        body: &str,
        outcome: DeliveryOutcome,
        why: Option<&str>,
    ) -> Self {
        let mut body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        Self {
            at: super::now_secs(),
            id: id.into(),
            outcome: outcome.as_str(),
            attempt,
            why: why.map(Into::into),
            data: body["data"].take(),
        }
    }
}

/// The newest attempts of this node.
#[derive(Clone, Default)]
pub struct DeliveryLog(Arc<Mutex<VecDeque<DeliveryAttempt>>>);

impl DeliveryLog {
    /// Adds an attempt; the oldest one goes.
    pub fn add(&self, attempt: DeliveryAttempt) {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.truncate(MAX_ATTEMPTS - 1);
        attempts.push_front(attempt);
    }

    /// The attempts, newest first.
    pub(super) fn newest(&self) -> Vec<DeliveryAttempt> {
        let attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.iter().cloned().collect()
    }
}

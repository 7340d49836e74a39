//! One decision, as listeners see it.
//!
//! The client's own text in it is bounded: the key of a policy, the method and the request's id. A
//! path is shown as the pattern that it matched, and the value of an API key is not known here.

use std::sync::Arc;

use serde::Serialize;

use crate::control::method_pattern;
use crate::engine::decision::DecidedBy;
use crate::engine::key_names::{self, KeyName, KeyText};
use crate::engine::observer::DecidedCheck;
use crate::telemetry::DecisionOutcome;
use crate::time::{Clock as _, Micros, SystemClock};

/// The most characters of a method that are kept.
const MAX_METHOD_CHARS: usize = 32;

/// A decision that was made just now.
#[derive(Debug)]
pub struct TailEvent {
    pub(super) at: Micros,
    pub(super) outcome: DecisionOutcome,
    /// The client's API key, by its id.
    pub(super) key_id: Option<Arc<str>>,
    /// The key that the refusing policy counts, or else the first policy of the request.
    pub(super) key: Option<KeyText>,
    pub(super) plan: Option<Arc<str>>,
    /// The limit that refuses, by its name in the catalog.
    pub(super) limit: Option<Arc<str>>,
    api: Option<Box<str>>,
    stage: Option<Box<str>>,
    pub(super) method: Option<Box<str>>,
    /// The pattern that the method and the path matched, if a limit belongs to it.
    pub(super) pattern: Option<Box<str>>,
    pub(super) retry_after: Micros,
    pub(super) decided_by: DecidedBy,
    pub(super) request_id: Option<Arc<str>>,
}

/// The members of an event in JSON; those without a value are left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventBody<'e> {
    at: String,
    node: &'e str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    decided_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'e str>,
}

impl TailEvent {
    pub(super) fn new(check: &DecidedCheck<'_>) -> Self {
        let (decision, request) = (check.decision, check.request);
        let name = request.and_then(|request| match check.refusing_charge() {
            Some(charge) => {
                let (_, name) = key_names::key_of(decision.key.as_ref(), request, charge);
                Some(name())
            }
            None => request.policies.first().map(|entry| KeyName::of_policy(entry.key)),
        });
        let key = match name {
            Some(KeyName::Policy(key)) => Some(key),
            Some(KeyName::KeyId(_) | KeyName::Nobody) | None => None,
        };
        let method = request.and_then(|request| request.method);
        let mut labels = check.charges.iter().map(|charge| charge.limit.label());
        Self {
            at: SystemClock.now(),
            outcome: check.outcome,
            key_id: decision.key.as_ref().map(|key| Arc::clone(&key.id)),
            key,
            plan: decision.plan.clone(),
            limit: check.refusing.cloned(),
            api: request.and_then(|request| request.api).map(Into::into),
            stage: request.and_then(|request| request.stage).map(Into::into),
            method: method.map(|method| method.chars().take(MAX_METHOD_CHARS).collect()),
            pattern: labels.find_map(|label| method_pattern(label)).map(Into::into),
            retry_after: decision.retry_after,
            decided_by: decision.decided_by,
            request_id: check.context.request_id().cloned(),
        }
    }

    /// The time until a retry fits, in milliseconds; `None` if it never does, or nothing refuses.
    pub(super) fn retry_after_ms(&self) -> Option<u64> {
        let waits = self.outcome.is_refusal() && self.retry_after < Micros::MAX;
        waits.then(|| self.retry_after.as_millis_ceil()).filter(|wait| *wait > 0)
    }

    /// The event as JSON on one line, with the name of the node.
    #[must_use]
    pub fn to_json(&self, node: &str) -> String {
        let micros = i64::try_from(self.at.get()).ok();
        let at = micros
            .and_then(|micros| jiff::Timestamp::from_microsecond(micros / 1_000 * 1_000).ok());
        let body = EventBody {
            at: at.map_or_else(String::new, |at| format!("{at:.3}")),
            node,
            outcome: self.outcome.as_str(),
            key_id: self.key_id.as_deref(),
            key: self.key.as_deref(),
            plan: self.plan.as_deref(),
            limit: self.limit.as_deref(),
            api: self.api.as_deref(),
            stage: self.stage.as_deref(),
            method: self.method.as_deref(),
            pattern: self.pattern.as_deref(),
            retry_after_ms: self.retry_after_ms(),
            decided_by: self.decided_by.as_str(),
            request_id: self.request_id.as_deref(),
        };
        serde_json::to_string(&body).unwrap_or_default()
    }
}

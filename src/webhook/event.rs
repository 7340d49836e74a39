//! The event for a threshold: its body, and an id that is the same on every node.
//!
//! Keys are named by their ids, never by their values.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::thresholds::ThresholdReached;
use crate::algorithm::Period;
use crate::store::OutboxEvent;
use crate::time::Micros;

/// The time for which the outbox remembers an id after the end of its window. A clock that steps
/// back reopens no window.
const EVENT_RETENTION: Micros = Micros::from_secs(86_400);

/// The body as Standard Webhooks defines it: a type, a timestamp, and data.
#[derive(Serialize)]
struct EventBody<'a> {
    r#type: &'static str,
    timestamp: String,
    data: ThresholdData<'a>,
}

#[derive(Serialize)]
struct ThresholdData<'a> {
    key: &'a str,
    customer_id: Option<&'a str>,
    plan: &'a str,
    limit: &'a str,
    unit: &'a str,
    period: &'static str,
    threshold: u8,
    used: u64,
    quota: u64,
    period_start: String,
    period_end: String,
}

/// The events for the thresholds that a quota has reached.
pub(super) fn threshold_events(reached: &ThresholdReached) -> impl Iterator<Item = OutboxEvent> {
    reached.thresholds.iter().filter_map(|&threshold| threshold_event(reached, threshold))
}

fn threshold_event(reached: &ThresholdReached, threshold: u8) -> Option<OutboxEvent> {
    let (quota, calendar) = (reached.limit.capacity(), reached.limit.calendar()?);
    let end = calendar.end_of(reached.window);
    let data = ThresholdData {
        key: &reached.key.id,
        customer_id: reached.key.customer_id.as_deref(),
        plan: &reached.plan,
        limit: reached.limit.name(),
        unit: reached.limit.unit().as_str(),
        period: match calendar.period() {
            Period::Seconds(_) => "seconds",
            Period::Day => "day",
            Period::Week(_) => "week",
            Period::Month(_) => "month",
        },
        threshold,
        used: reached.used,
        quota,
        period_start: to_rfc3339(calendar.start_of(reached.window)),
        period_end: to_rfc3339(end),
    };
    let body = EventBody { r#type: "quota.threshold", timestamp: to_rfc3339(reached.at), data };
    Some(OutboxEvent {
        id: event_id(reached, quota, threshold),
        body: serde_json::to_string(&body).ok()?,
        remember_until: end + EVENT_RETENTION,
    })
}

/// The id of an event: the same for the same threshold, quota, key and window, whichever node finds
/// it and whatever the usage is by then. A quota of another size has other thresholds.
fn event_id(reached: &ThresholdReached, quota: u64, threshold: u8) -> String {
    let parts = json!([
        &*reached.key.id,
        reached.limit.row().get(),
        reached.window.get(),
        quota,
        threshold
    ]);
    let digest = Sha256::digest(parts.to_string());
    format!("msg_{}", URL_SAFE_NO_PAD.encode(&digest[..16]))
}

/// A time in RFC 3339.
fn to_rfc3339(time: Micros) -> String {
    let time = Timestamp::from_microsecond(time.get().cast_signed());
    time.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::algorithm::{Calendar, Quota, WindowStart};
    use crate::catalog::ApiKey;
    use crate::limit::{Limit, Unit};

    fn reached(key: &str, quota: u64, day: u64) -> ThresholdReached {
        let calendar = Arc::new(Calendar::new(Period::Day, "Europe/Berlin").unwrap());
        let algorithm = Quota { limit: quota, calendar };
        ThresholdReached {
            key: Arc::new(ApiKey::new(key)),
            plan: "free".into(),
            limit: Arc::new(Limit::new("free/quota", Unit::requests(), algorithm, false)),
            window: WindowStart::new(day * 86_400),
            used: 95,
            at: Micros::new(1_795_600_000_250_000),
            thresholds: vec![80, 90],
        }
    }

    #[test]
    fn an_event_names_the_key_the_quota_and_the_usage() {
        let found: Vec<OutboxEvent> = threshold_events(&reached("acme", 100, 20_781)).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0].body,
            r#"{"type":"quota.threshold","timestamp":"2026-11-25T09:46:40.25Z","data":{"key":"acme","customer_id":null,"plan":"free","limit":"free/quota","unit":"requests","period":"day","threshold":80,"used":95,"quota":100,"period_start":"2026-11-23T23:00:00Z","period_end":"2026-11-24T23:00:00Z"}}"#
        );
        assert!(!found[0].id.contains('.') && found[0].id.starts_with("msg_"), "{}", found[0].id);
    }

    #[test]
    fn an_id_is_unique_to_its_event_and_the_same_on_every_node() {
        let id = |reached: ThresholdReached| {
            threshold_events(&reached).map(|event| event.id).collect::<Vec<_>>()
        };
        let first = id(reached("acme", 100, 20_781));
        let later = ThresholdReached { used: 99, at: Micros::ZERO, ..reached("acme", 100, 20_781) };
        assert_eq!(id(later), first);
        let others = [
            reached("acme2", 100, 20_781),
            reached("acme", 101, 20_781),
            reached("acme", 100, 20_782),
        ];
        let mut all: Vec<String> = others.into_iter().flat_map(id).chain(first).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 8);
    }
}

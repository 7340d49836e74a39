//! The response to Envoy: a status for each descriptor, headers, and dynamic metadata.

use pbjson_types::{Duration, ListValue, Struct, Value, value::Kind};
use serde_json::{Map, Value as Json};

use super::descriptors::{DescriptorLimit, LimitedDescriptor, ResolvedRequest};
use super::proto::rate_limit_response::{Code, DescriptorStatus};
use super::proto::{HeaderValue, RateLimitRequest, RateLimitResponse};
use crate::engine::{Decision, DecisionStatus, LimitOutcome};
use crate::telemetry::{DecisionOutcome, WorkerMetrics};
use crate::time::Micros;

/// The response to a request without limits, or to one that the store did not judge. Statuses
/// report no remaining units; they are `OVER_LIMIT` if the limit of that name refused.
pub(super) fn unjudged_response(
    resolved: &ResolvedRequest<'_>,
    decision: Option<&Decision>,
) -> RateLimitResponse {
    let refused = decision.is_some_and(|decision| decision.status == DecisionStatus::Refused);
    let status = |descriptor: &DescriptorLimit<'_>| match descriptor {
        DescriptorLimit::NoLimit => ok(),
        DescriptorLimit::Unlimited => unlimited(),
        DescriptorLimit::Limited(limited) => {
            let name = resolved.charges[limited.charge_index].limit.name();
            let violated = decision.and_then(|decision| decision.violated.as_ref());
            // Without `current_limit`: Envoy would report 0 remaining requests to clients.
            DescriptorStatus { code: code(!(refused && violated == Some(name))), ..ok() }
        }
    };
    RateLimitResponse {
        overall_code: code(!refused),
        statuses: resolved.descriptors.iter().map(status).collect(),
        response_headers_to_add: retry_after(decision),
        dynamic_metadata: None,
    }
}

/// The response to a request that the store judged. Counts the outcome of each descriptor.
pub(super) fn judged_response(
    request: &RateLimitRequest,
    resolved: &ResolvedRequest<'_>,
    decision: &Decision,
    metrics: &WorkerMetrics,
) -> RateLimitResponse {
    let mut passed = Map::new();
    let mut any_metadata = false;
    let mut statuses = Vec::with_capacity(resolved.descriptors.len());
    for descriptor in &resolved.descriptors {
        statuses.push(match descriptor {
            DescriptorLimit::NoLimit => ok(),
            DescriptorLimit::Unlimited => unlimited(),
            DescriptorLimit::Limited(limited) => {
                let limit_outcome = &decision.limits[limited.charge_index];
                count(resolved, limited, limit_outcome, metrics);
                let refunded = if decision.allowed() {
                    resolved.refunded_hits[limited.charge_index]
                } else {
                    0
                };
                let status = status(limited, limit_outcome, refunded);
                let metadata = limited.rule.map(|rule| &rule.metadata);
                if let Some(metadata) = metadata.filter(|metadata| !metadata.is_empty()) {
                    any_metadata = true;
                    if status.code == i32::from(Code::Ok) {
                        merge(&mut passed, metadata);
                    }
                }
                status
            }
        });
    }
    RateLimitResponse {
        overall_code: code(decision.allowed()),
        statuses,
        response_headers_to_add: retry_after(Some(decision)),
        dynamic_metadata: any_metadata.then(|| metadata(request, passed)),
    }
}

/// The status of a descriptor with a limit. `refunded` is the number of hits that have been
/// refunded since the verdict.
fn status(
    limited: &LimitedDescriptor<'_>,
    limit_outcome: &LimitOutcome,
    refunded: u64,
) -> DescriptorStatus {
    let status = &limit_outcome.status;
    let fits = status.fits || limit_outcome.limit.shadow();
    // The time until this cost fits; if it never does, until the counter is empty.
    let reset = match status.retry_after {
        Micros::ZERO | Micros::MAX => status.reset,
        wait => wait,
    };
    let remaining = status.remaining.saturating_add(refunded).min(limit_outcome.limit.capacity());
    DescriptorStatus {
        code: code(fits),
        current_limit: Some(limited.current_limit.clone()),
        limit_remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
        duration_until_reset: Some(Duration {
            seconds: reset.as_secs_ceil().cast_signed(),
            nanos: 0,
        }),
    }
}

fn count(
    resolved: &ResolvedRequest<'_>,
    limited: &LimitedDescriptor<'_>,
    limit_outcome: &LimitOutcome,
    metrics: &WorkerMetrics,
) {
    let outcome = match () {
        () if limit_outcome.status.fits => DecisionOutcome::Allowed,
        () if limit_outcome.limit.shadow() => DecisionOutcome::ShadowRefused,
        () => DecisionOutcome::Refused,
    };
    if let Some(domain) = resolved.domain {
        metrics.record_decision(domain.label(), Some(&limited.label), outcome, None);
        let debt = limit_outcome.status.debt;
        if debt > 0 && resolved.reports_to(limited.charge_index) {
            metrics.record_debt(domain.label(), &limited.label, debt);
        }
    }
}

fn code(ok: bool) -> i32 {
    if ok { Code::Ok.into() } else { Code::OverLimit.into() }
}

fn ok() -> DescriptorStatus {
    DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() }
}

fn unlimited() -> DescriptorStatus {
    DescriptorStatus { limit_remaining: u32::MAX, ..ok() }
}

/// The `Retry-After` header of a refusal that ends with time.
fn retry_after(decision: Option<&Decision>) -> Vec<HeaderValue> {
    let wait = decision.filter(|decision| !decision.allowed()).map(|decision| decision.retry_after);
    let header = |wait: Micros| HeaderValue {
        key: "retry-after".into(),
        value: wait.as_secs_ceil().to_string(),
    };
    wait.filter(|wait| *wait != Micros::MAX).map(header).into_iter().collect()
}

/// The dynamic metadata: the request as envoyproxy/ratelimit repeats it, and the metadata of the
/// rules that allowed it.
fn metadata(request: &RateLimitRequest, passed: Map<String, Json>) -> Struct {
    let descriptors = request.descriptors.iter().map(|descriptor| {
        let entries = descriptor
            .entries
            .iter()
            .map(|entry| Json::from(format!("{}={}", entry.key, entry.value)));
        let mut fields = Map::from_iter([("entries".to_owned(), entries.collect())]);
        if let Some(hits) = &descriptor.hits_addend {
            fields.insert("hitsAddend".into(), hits.value.into());
        }
        Json::Object(fields)
    });
    let mut fields = Map::from_iter([
        ("domain".to_owned(), request.domain.clone().into()),
        ("descriptors".to_owned(), descriptors.collect()),
    ]);
    if request.hits_addend != 0 {
        fields.insert("hitsAddend".into(), request.hits_addend.into());
    }
    if !passed.is_empty() {
        fields.insert("metadata".into(), passed.into());
    }
    to_struct(fields)
}

/// Adds members that are missing. Objects on both sides are merged.
fn merge(into: &mut Map<String, Json>, from: &Map<String, Json>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Json::Object(into)), Json::Object(from)) => merge(into, from),
            (Some(_), _) => {}
            (None, value) => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

fn to_struct(map: Map<String, Json>) -> Struct {
    Struct { fields: map.into_iter().map(|(key, value)| (key, to_value(value))).collect() }
}

fn to_value(value: Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(is) => Kind::BoolValue(is),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(to_value).collect() })
        }
        Json::Object(map) => Kind::StructValue(to_struct(map)),
    };
    Value { kind: Some(kind) }
}

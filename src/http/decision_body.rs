//! The JSON body of a response: a decision, alone or in a batch.
//!
//! Allowed and refused checks have the same members. A refusal also has those of a problem (RFC
//! 9457).

use axum::http::StatusCode;
use serde::Serialize;
use smallvec::SmallVec;

use super::reservations::ReservationMember;
use crate::engine::{DecidedBy, Decision, DecisionStatus, LimitOutcome};
use crate::time::Micros;

/// The problem types that the draft of the `RateLimit` fields registers.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const REDUCED_CAPACITY: &str =
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

/// The status code of the response to a check.
pub(super) fn status_code(decision: &Decision) -> StatusCode {
    match decision.status {
        DecisionStatus::Allowed | DecisionStatus::Reported => StatusCode::OK,
        DecisionStatus::Refused => StatusCode::TOO_MANY_REQUESTS,
        DecisionStatus::TooLarge => StatusCode::UNPROCESSABLE_ENTITY,
        DecisionStatus::Unavailable | DecisionStatus::Overloaded | DecisionStatus::Unreported => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// The members of every response; a problem's come first.
#[derive(Serialize)]
struct DecisionBody<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
    #[serde(rename = "violated-policies", skip_serializing_if = "SmallVec::is_empty")]
    violated_policies: SmallVec<[&'a str; 2]>,
    allowed: bool,
    retry_after_ms: u64,
    violated: Option<&'a str>,
    key: Option<KeyBody<'a>>,
    limits: SmallVec<[LimitBody<'a>; 4]>,
    decided_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reservation: Option<ReservationMember<'a>>,
}

#[derive(Serialize)]
struct KeyBody<'a> {
    id: &'a str,
    plan: Option<&'a str>,
    customer_id: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct LimitBody<'a> {
    name: &'a str,
    unit: &'a str,
    limit: u64,
    remaining: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    debt: Option<u64>,
    reset_ms: u64,
    retry_after_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<bool>,
}

impl<'a> From<&'a LimitOutcome> for LimitBody<'a> {
    fn from(outcome: &'a LimitOutcome) -> Self {
        let (limit, status) = (&outcome.limit, &outcome.status);
        Self {
            name: limit.name(),
            unit: limit.unit().as_str(),
            limit: limit.capacity(),
            remaining: status.remaining,
            debt: (status.debt > 0).then_some(status.debt),
            reset_ms: status.reset.as_millis_ceil(),
            // A shadow limit may be exceeded by a cost that never fits: then no wait helps.
            retry_after_ms: match status.retry_after {
                Micros::MAX => 0,
                wait => wait.as_millis_ceil(),
            },
            shadow: limit.shadow().then_some(true),
            allowed: limit.shadow().then_some(status.fits),
        }
    }
}

/// The members `type`, `title` and `detail` of a problem, for decisions that are problems.
fn problem_members(decision: &Decision) -> Option<[&'static str; 3]> {
    match decision.status {
        DecisionStatus::Allowed | DecisionStatus::Reported => None,
        DecisionStatus::Refused if decision.decided_by == DecidedBy::NewKeys => Some([
            QUOTA_EXCEEDED,
            "Too many new keys",
            "too many keys that this node has not met begin at the moment; keys in use are not affected; retry after retry_after_ms",
        ]),
        DecisionStatus::Refused => Some([
            QUOTA_EXCEEDED,
            "Too many requests",
            "a limit has no room for this cost now; retry after retry_after_ms",
        ]),
        DecisionStatus::TooLarge => Some([
            "about:blank",
            "Cost over limit",
            "this cost is larger than the limit and can never fit; send a smaller one",
        ]),
        DecisionStatus::Unavailable => Some([
            REDUCED_CAPACITY,
            "Limits unavailable",
            "the limits cannot be judged at the moment, and the plan fails closed",
        ]),
        DecisionStatus::Overloaded => Some([
            REDUCED_CAPACITY,
            "Overloaded",
            "too many checks wait at this node, so this one was not judged in time; retry after retry_after_ms",
        ]),
        DecisionStatus::Unreported => Some([
            REDUCED_CAPACITY,
            "Report may be lost",
            "the store gave no answer in time, so this may not have been charged; send it again",
        ]),
    }
}

/// The names of all limits that refuse.
fn violated_limits(decision: &Decision) -> SmallVec<[&str; 2]> {
    let refusing = decision.limits.iter().filter(|outcome| outcome.refuses);
    let names: SmallVec<[&str; 2]> = refusing.map(|outcome| &**outcome.limit.name()).collect();
    // Without a verdict of the store, only the limit that the node itself knows of.
    if names.is_empty() { decision.violated.as_deref().into_iter().collect() } else { names }
}

/// Appends the JSON body of a response. In a batch every result has the member `status`, alone only
/// problems do.
pub(super) fn write_json(out: &mut Vec<u8>, decision: &Decision, in_batch: bool) {
    let problem = problem_members(decision);
    let body = DecisionBody {
        kind: problem.map(|[kind, _, _]| kind),
        title: problem.map(|[_, title, _]| title),
        status: (in_batch || problem.is_some()).then(|| status_code(decision).as_u16()),
        detail: problem.map(|[_, _, detail]| detail),
        violated_policies: problem.map(|_| violated_limits(decision)).unwrap_or_default(),
        allowed: decision.allowed(),
        retry_after_ms: decision.retry_after.as_millis_ceil(),
        violated: decision.violated.as_deref(),
        key: decision.key.as_ref().map(|key| KeyBody {
            id: &key.id,
            plan: decision.plan.as_deref(),
            customer_id: key.customer_id.as_deref(),
        }),
        limits: decision.limits.iter().map(LimitBody::from).collect(),
        decided_by: decision.decided_by.as_str(),
        reservation: decision.reservation.as_deref().map(ReservationMember::new),
    };
    let written = serde_json::to_writer(out, &body);
    debug_assert!(written.is_ok(), "{written:?}");
}

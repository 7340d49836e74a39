//! The JSON of reservations: as a member of a check's response, and after a change.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::engine::{Reservation, ReservationStatus};
use crate::http::decision_body::LimitBody;
use crate::reservation::ReservedAmount;
use crate::transport::Problem;

/// The member `reservation` of a decision.
#[derive(Serialize)]
#[serde(untagged)]
pub(in crate::http) enum ReservationMember<'a> {
    /// The check is admitted, but there is nothing to settle.
    Null,
    /// A dry run would have opened it, so there is no handle.
    DryRun { ttl_ms: u64, replayed: bool, reserved: Amounts<'a> },
    /// It is open.
    Open { handle: String, ttl_ms: u64, replayed: bool, reserved: Amounts<'a> },
}

impl<'a> ReservationMember<'a> {
    pub(in crate::http) fn new(reservation: &'a Reservation) -> Self {
        match reservation {
            Reservation::Unavailable => Self::Null,
            Reservation::DryRun { ttl, replayed, amounts } => Self::DryRun {
                ttl_ms: ttl.as_millis_ceil(),
                replayed: *replayed,
                reserved: Amounts(amounts),
            },
            Reservation::Open { handle, replayed } => Self::Open {
                handle: handle.encode(),
                ttl_ms: handle.check.ttl.as_millis_ceil(),
                replayed: *replayed,
                reserved: Amounts(&handle.check.amounts),
            },
        }
    }
}

/// Amounts as an object by unit.
pub(in crate::http) struct Amounts<'a>(&'a [ReservedAmount]);

impl Serialize for Amounts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for ReservedAmount { unit, amount } in self.0 {
            map.serialize_entry(unit.as_str(), amount)?;
        }
        map.end()
    }
}

/// A reservation after a change.
#[derive(Serialize)]
struct StatusBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    charged: Amounts<'a>,
    limits: Vec<LimitBody<'a>>,
    #[serde(flatten)]
    open: Option<OpenBody<'a>>,
}

/// The members of a reservation that stays open.
#[derive(Serialize)]
struct OpenBody<'a> {
    ttl_ms: u64,
    /// True if the request should be ended: a limit is in debt.
    stop: bool,
    violated: Option<&'a str>,
}

impl<'a> StatusBody<'a> {
    fn new(changed: &'a ReservationStatus, in_batch: bool) -> Self {
        Self {
            status: in_batch.then_some(200),
            charged: Amounts(&changed.charged),
            limits: changed.limits.iter().map(LimitBody::from).collect(),
            open: changed.open_for.map(|ttl| OpenBody {
                ttl_ms: ttl.as_millis_ceil(),
                stop: changed.violated.is_some(),
                violated: changed.violated.as_deref(),
            }),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let written = serde_json::to_writer(out, self);
        debug_assert!(written.is_ok(), "{written:?}");
    }
}

/// The response to one change.
pub(super) fn one(changed: &ReservationStatus) -> Response {
    let mut body = Vec::with_capacity(512);
    StatusBody::new(changed, false).write(&mut body);
    json(body)
}

/// The response to many changes.
pub(super) fn many(results: &[Result<ReservationStatus, Problem>]) -> Response {
    let mut body = Vec::with_capacity(256 * results.len() + 32);
    body.extend_from_slice(br#"{"results":["#);
    for (index, result) in results.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        match result {
            Ok(changed) => StatusBody::new(changed, true).write(&mut body),
            Err(problem) => problem.write_json(&mut body),
        }
    }
    body.extend_from_slice(b"]}");
    json(body)
}

fn json(body: Vec<u8>) -> Response {
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (content_type, Body::from(body)).into_response()
}

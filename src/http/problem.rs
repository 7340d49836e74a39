//! Problems that only the check endpoints report, and the problem for each error of a check.

use std::borrow::Cow;

use axum::http::StatusCode;

use crate::catalog::CheckError;
use crate::engine::AdjustError;
use crate::transport::Problem;

impl Problem {
    /// 403: the client may not make this request.
    pub(super) fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", detail)
    }

    /// 503: the registry cannot be read for the request's API key.
    pub(super) fn key_lookup_failed() -> Self {
        let detail = "the API key cannot be looked up while the store is down; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
    }

    /// 503: the node has no catalog yet.
    pub(super) fn not_ready() -> Self {
        let detail = "the node has no catalog yet: Redis has not responded since the start, or what the API declares does not fit the catalog file; see the service's log";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
    }

    /// 404: no endpoint has this path.
    pub(super) fn not_found(path: &str) -> Self {
        let shown: String = path.chars().take(100).collect();
        let detail = format!(
            "there is nothing at {shown}; try POST /check, POST /check/batch, POST /reservations/settle, /cancel or /extend, /authz, GET /metrics, /healthz, /readyz or /openapi.json"
        );
        Self::new(StatusCode::NOT_FOUND, "Not found", detail)
    }

    /// 405: the endpoint does not support the method.
    pub(super) fn method_not_allowed() -> Self {
        let detail = "this path needs another method: POST for /check and /reservations, GET for /metrics, /healthz and /readyz";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", detail)
    }

    /// 403: the request may not change reservations.
    pub(super) fn untrusted_settler() -> Self {
        Self::forbidden(
            "reservations are only changed by callers with the token of --check-token or from --trusted-peers",
        )
    }

    /// 409: the id of a reservation is in use.
    fn reservation_conflict() -> Self {
        let detail = "another check has a reservation with this id, or this check's time is over; nothing was charged: send another id";
        let problem = Self::new(StatusCode::CONFLICT, "Conflict", detail);
        problem.with_field("reservation.id")
    }

    /// 413: the checks of a batch have more than `max` charges.
    fn too_many_charges(max: usize) -> Self {
        let detail = format!(
            "the checks have more than {max} limits in all, and nothing was charged; send fewer at a time"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large", detail).with_field("checks")
    }

    /// 404: no such reservation.
    fn unknown_reservation() -> Self {
        let detail = "there is no such reservation: it is settled, cancelled or forgotten, or was never opened; nothing was charged, and nothing is left to do";
        Self::new(StatusCode::NOT_FOUND, "Reservation not found", detail)
    }

    /// 503: the store gave no response about a reservation.
    fn reservation_unavailable() -> Self {
        let detail = "the store cannot be reached, so the reservation may not have been changed; send the same again: it is made once";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
    }
}

impl From<AdjustError> for Problem {
    fn from(error: AdjustError) -> Self {
        match error {
            AdjustError::Check(error) => error.into(),
            AdjustError::Unknown => Self::unknown_reservation(),
            AdjustError::Unavailable => Self::reservation_unavailable(),
        }
    }
}

impl From<CheckError> for Problem {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Invalid { field, detail } => Self::bad_request(field, detail),
            CheckError::Forbidden { detail } => Self::forbidden(detail),
            CheckError::LookupUnavailable => Self::key_lookup_failed(),
            CheckError::NotReady => Self::not_ready(),
            CheckError::ReservationConflict => Self::reservation_conflict(),
            CheckError::TooManyCharges { max } => Self::too_many_charges(max),
        }
    }
}

//! Error responses in AWS' form: a status, a type in a header, and a message.

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::control::ControlError;
use crate::store::StoreError;
use crate::transport::Problem;

/// The error response to a request that had no effect.
#[derive(Debug)]
pub(super) struct AdminError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl AdminError {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequestException", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFoundException", message)
    }
}

impl From<Problem> for AdminError {
    fn from(problem: Problem) -> Self {
        let kind = match problem.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLargeException",
            StatusCode::REQUEST_TIMEOUT => "RequestTimeoutException",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailableException",
            _ => "BadRequestException",
        };
        Self::new(problem.status(), kind, problem.detail())
    }
}

impl From<ControlError> for AdminError {
    fn from(error: ControlError) -> Self {
        let message = error.to_string();
        match error {
            ControlError::BadRequest(_) => Self::bad_request(message),
            ControlError::Validation(_) => {
                Self::new(StatusCode::BAD_REQUEST, "ValidationException", message)
            }
            ControlError::NotFound(_) => Self::not_found(message),
            ControlError::Conflict(_) => {
                Self::new(StatusCode::CONFLICT, "ConflictException", message)
            }
            ControlError::Store(StoreError::BadRow(_)) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerErrorException",
                "the stored counters of this key are damaged; a reset replaces them",
            ),
            ControlError::Store(error) => {
                tracing::warn!(%error, "an admin request failed");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "ServiceUnavailableException",
                    "the store cannot be used now; if this was a change, it may have been made",
                )
            }
            ControlError::Corrupt(_) => {
                tracing::error!(%message, "an admin request failed");
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(status, "InternalServerErrorException", "see the service's log")
            }
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "message": self.message }))).into_response();
        response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(self.kind));
        response
    }
}

//! `POST /reservations/settle`, `/reservations/cancel` and `/reservations/extend`: what becomes of
//! reservations that checks have opened.
//!
//! Each takes one reservation, or up to [`MAX_RESERVATIONS`] of them, which are answered like a
//! batch of checks: each on its own, in order. Opening one is `check`'s.

mod request;
mod response;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;

use super::{WorkerState, count_response};
use crate::engine::ReservationStatus;
use crate::transport::{Problem, read_body};
pub(super) use request::ReservationBody;
use request::{ChangeBody, Changes};
pub(super) use response::ReservationMember;

/// The most reservations in one request.
const MAX_RESERVATIONS: usize = 1_000;
/// The largest request body in bytes: room for [`MAX_RESERVATIONS`] of 2 KiB.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// The endpoints.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Settle,
    Cancel,
    Extend,
}

impl Endpoint {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Settle => "settle",
            Self::Cancel => "cancel",
            Self::Extend => "extend",
        }
    }
}

pub(super) async fn settle(State(state): State<Arc<WorkerState>>, request: Request) -> Response {
    respond(&state, Endpoint::Settle, request).await
}

pub(super) async fn cancel(State(state): State<Arc<WorkerState>>, request: Request) -> Response {
    respond(&state, Endpoint::Cancel, request).await
}

pub(super) async fn extend(State(state): State<Arc<WorkerState>>, request: Request) -> Response {
    respond(&state, Endpoint::Extend, request).await
}

async fn respond(state: &WorkerState, endpoint: Endpoint, request: Request) -> Response {
    let response = change(state, endpoint, request).await;
    count_response(state, endpoint.as_str(), response.unwrap_or_else(IntoResponse::into_response))
}

async fn change(
    state: &WorkerState,
    endpoint: Endpoint,
    request: Request,
) -> Result<Response, Problem> {
    let access = &state.shared.access;
    if !access.authenticate(request.headers(), request.extensions())? {
        return Err(Problem::untrusted_settler());
    }
    let body = read_body(request.into_body(), MAX_BODY_BYTES).await?;
    let change = async |body: &ChangeBody<'_>| -> Result<ReservationStatus, Problem> {
        Ok(state.engine.adjust(&body.to_request(endpoint)?).await?)
    };
    match Changes::parse(&body)? {
        Changes::One(body) => Ok(response::one(&change(&body).await?)),
        Changes::Many(bodies) => {
            // They reach the store together.
            let changed = bodies.iter().map(async |body| match body {
                Ok(body) => change(body).await,
                Err(problem) => Err(problem.clone()),
            });
            Ok(response::many(&join_all(changed).await))
        }
    }
}

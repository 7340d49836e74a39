//! `POST /noop`, for benchmarks only: parses a request like `/check` and sends a fixed response.
//!
//! The difference in cost between `/check` and this endpoint is the cost of a decision.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};

use super::request::CheckBody;
use super::{WorkerState, check, count_response};
use crate::algorithm::{CounterState, Rate, Throttle};
use crate::engine::{DecidedBy, Decision};
use crate::judge::Verdict;
use crate::limit::{Charge, Charges, Limit, Subject, Unit};
use crate::time::Micros;
use crate::transport::{Problem, read_body};

static FIXED_DECISION: LazyLock<Option<Decision>> = LazyLock::new(|| {
    let throttle = Throttle::new(Rate::new(20, Micros::from_secs(1))?, 1_000_000).ok()?;
    let limit = Limit::new("policy:bench/throttle", Unit::requests(), throttle, false);
    let charge = Charge::new(Subject::policy("bench", "noop"), Arc::new(limit), 1);
    let charges: Charges = [charge].into_iter().collect();
    let states = [CounterState::of_level(12_345_678)].into_iter().collect();
    let verdict = Verdict { now: Micros::ZERO, allowed: true, states };
    Some(Decision::from_verdict(&charges, &verdict, DecidedBy::Memory))
});

pub(super) fn noop(
    State(state): State<Arc<WorkerState>>,
    request: Request,
) -> impl Future<Output = Response> {
    let authenticated = state.shared.access.authenticate(request.headers(), request.extensions());
    let body = request.into_body();
    async move {
        let response = match read_check(authenticated, body).await {
            Ok(()) => {
                FIXED_DECISION.as_ref().map_or_else(|| ().into_response(), check::decision_response)
            }
            Err(problem) => problem.into_response(),
        };
        count_response(&state, "noop", response)
    }
}

async fn read_check(authenticated: Result<bool, Problem>, body: Body) -> Result<(), Problem> {
    let key_id_allowed = authenticated?;
    let body = read_body(body, 64 * 1024).await?;
    CheckBody::parse(&body)?.to_check_request(key_id_allowed).map(drop)
}

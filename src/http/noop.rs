//! `POST /noop`, for benchmarks only: reads a check and answers like one, and decides nothing.
//!
//! What `/check` costs more than this is the price of deciding; everything else is the server's.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};

use super::request::CheckRequest;
use super::{Node, Problem, body, check, counted};
use crate::algorithm::{Reading, Verdict};
use crate::engine::{DecidedBy, Decision};
use crate::limit::{Charge, Charges, Limit, Rate, Rule, Start, Subject, Throttle, Unit};
use crate::time::Micros;

static ANSWER: LazyLock<Option<Decision>> = LazyLock::new(|| {
    let throttle = Throttle::new(Rate::new(20, Micros::from_secs(1))?, 1_000_000).ok()?;
    let limit =
        Limit::new("policy:bench/throttle", Unit::requests(), Rule::Throttle(throttle), false);
    let charge =
        Charge { subject: Subject::policy("bench", "noop"), limit: Arc::new(limit), cost: 1 };
    let charges: Charges = [charge].into_iter().collect();
    let readings = [Reading { held: 12_345_678, window: Start::new(0) }].into_iter().collect();
    let verdict = Verdict { now: Micros::ZERO, allowed: true, readings };
    Some(Decision::from_verdict(&charges, &verdict, DecidedBy::Memory))
});

pub(super) fn noop(
    State(node): State<Arc<Node>>,
    request: Request,
) -> impl Future<Output = Response> {
    let admitted = check::admit(&node.shared, &request);
    let body = request.into_body();
    async move {
        let response = match read(admitted, body).await {
            Ok(()) => ANSWER.as_ref().map_or_else(|| ().into_response(), check::respond),
            Err(problem) => problem.into_response(),
        };
        counted(&node, "noop", response)
    }
}

async fn read(admitted: Result<bool, Problem>, body: Body) -> Result<(), Problem> {
    let key_id_allowed = admitted?;
    let body = body::read(body, 64 * 1024, body::PATIENCE).await?;
    CheckRequest::parse(&body)?.ask(key_id_allowed).map(drop)
}

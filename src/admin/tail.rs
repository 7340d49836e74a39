//! `GET /tail`: decisions of this node while they are made, as server-sent events.
//!
//! The query has been checked by `query`. Events are a sample at a bounded rate; what a reader
//! missed is an event of its own. Other nodes have a tail of their own: each is asked for its own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior};

use super::Admin;
use super::error::AdminError;
use super::payload::AdminResult;
use super::query::is_true;
use crate::engine::{MissedEvents, Tail, TailFilter, TailSubscription};
use crate::telemetry::DecisionOutcome;
use crate::transport::DrainFlag;

/// The events of a second unless the query says how many.
const DEFAULT_RATE: u32 = 100;
/// The interval at which a reader is told what it missed, and the end of the node is noticed.
const TICK: Duration = Duration::from_secs(1);
/// The ticks without an event after which a comment keeps the connection open.
const KEEP_ALIVE_TICKS: u32 = 10;
/// The time after which a browser reconnects, in milliseconds.
const RETRY_MS: u32 = 2_000;

/// The decisions of this node, for `GET /tail`.
pub struct TailFeed {
    /// The decisions.
    pub tail: Arc<Tail>,
    /// The name of the node.
    pub node: String,
    /// Set while the node stops: streams end, so that it need not wait for them.
    pub draining: DrainFlag,
}

/// The query of the stream.
#[derive(Default, Deserialize)]
pub(super) struct TailQuery {
    all: Option<String>,
    outcome: Option<String>,
    plan: Option<Box<str>>,
    key: Option<Box<str>>,
    limit: Option<Box<str>>,
    rate: Option<u32>,
}

pub(super) async fn stream(
    State(admin): State<Arc<Admin>>,
    Query(query): Query<TailQuery>,
) -> AdminResult {
    let TailQuery { all, outcome, plan, key, limit, rate } = query;
    let outcome = outcome.as_deref().and_then(DecisionOutcome::from_word);
    let filter = TailFilter { all: is_true(all.as_deref()), outcome, plan, key, limit };
    let rate = rate.unwrap_or(DEFAULT_RATE);
    let subscription = admin.feed.tail.subscribe(filter, rate).ok_or_else(|| {
        let why = "as many clients as possible tail this node already; end one of them";
        AdminError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", why)
    })?;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reader = Reader { admin, subscription, ticks, quiet_ticks: 0 };
    let start = reader.start();
    let events = stream::unfold(reader, async |mut reader| {
        let chunk = reader.next_chunk().await?;
        Some((Ok::<_, Infallible>(chunk), reader))
    });
    let first = stream::once(async { Ok(start) });
    let body = Body::from_stream(futures_util::StreamExt::chain(first, events));
    // Proxies must not gather events.
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body).into_response())
}

/// The reader of one stream.
struct Reader {
    admin: Arc<Admin>,
    subscription: TailSubscription,
    ticks: Interval,
    /// Ticks since the last bytes were sent.
    quiet_ticks: u32,
}

impl Reader {
    /// The first event: the node, and the time after which to reconnect.
    fn start(&self) -> Bytes {
        let node = json!({ "node": self.admin.feed.node });
        format!("retry: {RETRY_MS}\nevent: start\ndata: {node}\n\n").into()
    }

    /// The next bytes to send; `None` once the node stops.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                events = self.subscription.read() => {
                    self.quiet_ticks = 0;
                    let node = &self.admin.feed.node;
                    let events = events.iter();
                    let events = events.map(|it| format!("event: decision\ndata: {}\n\n", it.to_json(node)));
                    return Some(events.collect::<String>().into());
                }
                _ = self.ticks.tick() => {
                    if self.admin.feed.draining.is_set() {
                        return None;
                    }
                    if let Some(told) = self.on_tick() {
                        self.quiet_ticks = 0;
                        return Some(told);
                    }
                }
            }
        }
    }

    /// The event of a tick: what a reader has missed, or a sign of life.
    fn on_tick(&mut self) -> Option<Bytes> {
        let MissedEvents { sampled_out, dropped } = self.subscription.take_missed();
        if sampled_out + dropped > 0 {
            let missed = json!({ "sampledOut": sampled_out, "dropped": dropped });
            return Some(format!("event: missed\ndata: {missed}\n\n").into());
        }
        self.quiet_ticks += 1;
        (self.quiet_ticks >= KEEP_ALIVE_TICKS).then(|| Bytes::from_static(b": no events\n\n"))
    }
}

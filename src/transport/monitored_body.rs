//! Bodies of HTTP/2 responses that wait for their client, and since when.
//!
//! A client that grants a stream no bytes of its flow-control window, but answers pings, moves
//! bytes: its connection is not idle, and holds a response for each stream. The time limit is
//! `open_connections`'. HTTP/1 needs none of this: there the connection's own writes would wait.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::open_connections::Activity;

/// The length of an interval in ticks: 5 s.
const INTERVAL_TICKS: u32 = 50;
/// The intervals that a connection tells apart.
const INTERVALS: u32 = 8;

/// The number of bodies of a connection that wait since each of the last intervals.
#[derive(Default)]
pub(super) struct WaitingBodies([AtomicU32; INTERVALS as usize]);

impl WaitingBodies {
    fn count(&self, interval: u32) -> &AtomicU32 {
        &self.0[(interval % INTERVALS) as usize]
    }

    /// Counts a body that waits from `now` on, in ticks. Returns its interval.
    pub(super) fn begin(&self, now: u32) -> u32 {
        let interval = now / INTERVAL_TICKS;
        self.count(interval).fetch_add(1, Relaxed);
        interval
    }

    /// Counts a body no more that has waited since an interval.
    pub(super) fn end(&self, interval: u32) {
        self.count(interval).fetch_sub(1, Relaxed);
    }

    /// True if a body has waited for 30 to 40 s.
    pub(super) fn has_overdue(&self, now: u32) -> bool {
        // Of the intervals in the ring, the one after the present one is the oldest.
        self.count(now / INTERVAL_TICKS + 1).load(Relaxed) > 0
    }
}

/// The body of a response, which waits for the client whenever it is not asked for more.
pub(super) struct MonitoredBody {
    body: Body,
    wait: Option<ClientWait>,
}

/// The wait of one body of HTTP/2.
struct ClientWait {
    activity: Arc<Activity>,
    /// The interval since which it waits; `None` while the body itself has nothing to send.
    since: Option<u32>,
}

impl ClientWait {
    fn begin(&mut self) {
        self.since = Some(self.activity.begin_body_wait());
    }

    fn end(&mut self) {
        if let Some(since) = self.since.take() {
            self.activity.end_body_wait(since);
        }
    }
}

impl Drop for ClientWait {
    fn drop(&mut self) {
        self.end();
    }
}

impl MonitoredBody {
    /// A body of HTTP/2 on the connection with this activity; without one, a body of HTTP/1.
    pub(super) fn new(body: Body, activity: Option<Arc<Activity>>) -> Self {
        let wait = activity.map(|activity| {
            let mut wait = ClientWait { activity, since: None };
            wait.begin();
            wait
        });
        Self { body, wait }
    }
}

impl hyper::body::Body for MonitoredBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if let Some(wait) = &mut this.wait {
            wait.end();
        }
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let (Some(wait), Poll::Ready(_)) = (&mut this.wait, &polled) {
            wait.begin();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! Request bodies: the time in which one has to arrive, and the bytes held of those that have not.
//!
//! The server wraps every body in a [`LimitedBody`], so the limits hold on every listener, for
//! every endpoint and protocol, whatever reads the body. The size of a body is the reader's limit.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::Problem;

/// The limits of a listener's request bodies.
#[derive(Clone, Copy)]
pub struct BodyLimits {
    /// The time from the request head to the end of the body.
    pub timeout: Duration,
    /// The most bytes of unfinished bodies on one connection.
    pub connection_bytes: usize,
    /// The most bytes of unfinished bodies on all connections.
    pub listener_bytes: usize,
    /// Converts the error for the reader of the body.
    pub convert_error: fn(BodyError) -> BoxError,
}

/// The reason why the rest of a body is not read.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum BodyError {
    /// The body did not arrive in time.
    #[error("the request body took too long to arrive")]
    TimedOut,
    /// Too many bytes of unfinished bodies are held, on the connection or on the listener.
    #[error("too many request bodies are unfinished; try again")]
    TooManyBytes,
}

/// The bytes of unfinished bodies on all connections of a listener.
pub(super) struct ListenerBodies {
    limits: BodyLimits,
    bytes: AtomicUsize,
}

impl ListenerBodies {
    pub(super) fn new(limits: BodyLimits) -> Self {
        Self { limits, bytes: AtomicUsize::new(0) }
    }
}

/// The bytes of unfinished bodies on one connection.
pub(super) struct ConnectionBodies {
    listener: Arc<ListenerBodies>,
    bytes: AtomicUsize,
}

impl ConnectionBodies {
    pub(super) fn new(listener: Arc<ListenerBodies>) -> Self {
        Self { listener, bytes: AtomicUsize::new(0) }
    }
}

/// The bytes that a reader has of one body. They count while the body is waited for: a body that
/// arrives at once, as almost all do, costs nothing here.
struct HeldBytes {
    connection: Arc<ConnectionBodies>,
    received: usize,
    counted: usize,
}

impl HeldBytes {
    /// Counts what has been received so far. Returns false if that is over a limit.
    fn count(&mut self) -> bool {
        let more = self.received - self.counted;
        if more == 0 {
            return true;
        }
        self.counted = self.received;
        let ListenerBodies { limits, bytes } = &*self.connection.listener;
        let on_connection = self.connection.bytes.fetch_add(more, Ordering::Relaxed) + more;
        let on_listener = bytes.fetch_add(more, Ordering::Relaxed) + more;
        on_connection <= limits.connection_bytes && on_listener <= limits.listener_bytes
    }

    fn release(&mut self) {
        if self.counted > 0 {
            self.connection.bytes.fetch_sub(self.counted, Ordering::Relaxed);
            self.connection.listener.bytes.fetch_sub(self.counted, Ordering::Relaxed);
        }
        (self.received, self.counted) = (0, 0);
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.release();
    }
}

pin_project! {
    /// A request body under the limits of its listener.
    pub(super) struct LimitedBody {
        incoming: Incoming,
        held: HeldBytes,
        #[pin]
        timeout: Option<Sleep>,
    }
}

impl LimitedBody {
    /// The body of a request whose head has `head_bytes`, which count with the body. HTTP/1.1
    /// counts none: there a connection has one request, and a bounded buffer for its head.
    pub(super) fn new(
        incoming: Incoming,
        connection: Arc<ConnectionBodies>,
        head_bytes: usize,
    ) -> Self {
        let held = HeldBytes { connection, received: head_bytes, counted: 0 };
        Self { incoming, held, timeout: None }
    }
}

impl hyper::body::Body for LimitedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        match Pin::new(this.incoming).poll_frame(context) {
            Poll::Ready(Some(frame)) => {
                let data = frame.as_ref().ok().and_then(Frame::data_ref);
                this.held.received += data.map_or(0, Bytes::len);
                Poll::Ready(Some(frame.map_err(Into::into)))
            }
            Poll::Ready(None) => {
                this.held.release();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let limits = this.held.connection.listener.limits;
                let error = if this.held.count() {
                    if this.timeout.is_none() {
                        this.timeout.set(Some(tokio::time::sleep(limits.timeout)));
                    }
                    if let Some(timeout) = this.timeout.as_pin_mut() {
                        ready!(timeout.poll(context));
                    }
                    BodyError::TimedOut
                } else {
                    BodyError::TooManyBytes
                };
                Poll::Ready(Some(Err((limits.convert_error)(error))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Reads a whole body of at most `limit` bytes.
///
/// Up to twice `limit` is read before the body is rejected: a client that is still sending would
/// otherwise see its connection reset instead of the response.
///
/// # Errors
/// 408 after the listener's timeout, 503 if it holds too many bytes of unfinished bodies, 413 over
/// the limit, 400 if the body ends early.
pub async fn read_body(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut whole: Option<Bytes> = None;
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.into_inner().downcast_ref() {
            Some(BodyError::TimedOut) => Problem::request_timeout(),
            Some(BodyError::TooManyBytes) => Problem::too_many_bodies(),
            None => Problem::bad_request("body", "the body ended before it was whole"),
        })?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        whole = match whole {
            _ if size > 2 * limit => break,
            _ if size > limit => None,
            None => Some(data),
            Some(so_far) => {
                let mut joined = BytesMut::from(so_far);
                joined.extend_from_slice(&data);
                Some(joined.freeze())
            }
        };
    }
    if size > limit {
        Err(Problem::payload_too_large(limit))
    } else {
        Ok(whole.unwrap_or_default())
    }
}

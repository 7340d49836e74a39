//! Request bodies, read whole within a size limit and a timeout.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use super::Problem;

/// The timeout for reading the body of a check.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a whole body of at most `limit` bytes within `timeout`.
///
/// Up to twice `limit` is read before the body is rejected: a client that is still sending would
/// otherwise see its connection reset instead of the response.
///
/// # Errors
/// 408 after the timeout, 413 over the limit, 400 if the body ends early.
pub async fn read_body(body: Body, limit: usize, timeout: Duration) -> Result<Bytes, Problem> {
    tokio::time::timeout(timeout, collect_body(body, limit))
        .await
        .unwrap_or(Err(Problem::request_timeout()))
}

async fn collect_body(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut whole: Option<Bytes> = None;
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|_| Problem::bad_request("body", "the body ended before it was whole"))?;
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

//! Reading a request's body, with an end to its size and to its time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use super::Problem;

/// How long the body of a check may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The whole body, of at most `limit` bytes, if it arrives in time.
///
/// Up to twice as much is read before the refusal: a client that is still sending would otherwise
/// see its connection reset in place of the answer.
///
/// # Errors
/// 408, 413, or 400 where it breaks off.
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

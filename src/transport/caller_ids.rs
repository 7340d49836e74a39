//! The ids that a caller gives its request: `x-request-id`, which the response repeats, and the
//! `traceparent` of W3C Trace Context, which `store` parses.
//!
//! A request without an `x-request-id` gets none here: making one, and sending it, would cost each
//! check more than it is worth. An invalid one is ignored.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header with the request's id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The most bytes of a request's id.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The ids of one request. Each is looked up when it is needed, since few requests are sampled.
pub struct CallerIds<'r>(&'r HeaderMap);

impl<'r> CallerIds<'r> {
    /// The ids in the headers or the gRPC metadata of a request.
    #[must_use]
    pub fn of(headers: &'r HeaderMap) -> Self {
        Self(headers)
    }

    /// The value of `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> Option<&'r str> {
        self.0.get("traceparent")?.to_str().ok()
    }

    /// The value of `x-request-id`: 1 to 128 printable characters.
    #[must_use]
    pub fn request_id(&self) -> Option<&'r str> {
        request_id(self.0)?.to_str().ok()
    }
}

/// The `x-request-id` of a request, if it is of use in logs: 1 to 128 bytes of visible ASCII.
pub(super) fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let id = headers.get(X_REQUEST_ID)?;
    let bytes = id.as_bytes();
    let is_valid =
        (1..=MAX_REQUEST_ID_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    is_valid.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_short_and_printable_or_ignored() {
        let of = |bytes: &[u8]| {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            request_id(&HeaderMap::from_iter([(X_REQUEST_ID, value)])).cloned()
        };
        assert_eq!(of(b"f3b1-7:a").unwrap(), "f3b1-7:a");
        assert!(of(&[b'a'; 128]).is_some());
        let invalid: [&[u8]; 5] = [b"", &[b'a'; 129], b"a b", b"a\tb", "é".as_bytes()];
        for id in invalid {
            assert_eq!(of(id), None, "{id:?}");
        }
    }
}

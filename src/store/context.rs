//! The context of a check: the request that it belongs to, and the trace of that, carried to the
//! script call that judges the check.
//!
//! A context changes no decision. The store itself neither logs nor counts it; it only hands it to
//! an observer of calls.

use std::sync::Arc;
use std::time::Duration;

/// The context of a check: its request, as far as something observes it.
///
/// It is empty, and costs nothing, unless calls to the store are observed or decisions are tailed.
#[derive(Clone, Debug, Default)]
pub struct CheckContext(Option<Arc<RequestContext>>);

/// What is known about the request that checks belong to.
#[derive(Debug, Default)]
pub struct RequestContext {
    /// The caller's `x-request-id`.
    pub request_id: Option<Arc<str>>,
    /// The place of the request in its trace.
    pub trace: Option<TraceContext>,
}

/// A place in a trace, as in W3C Trace Context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The id of the trace, the same in all services that the request passes.
    pub trace_id: [u8; 16],
    /// The id of the span in which the caller sent the request.
    pub span_id: [u8; 8],
}

impl CheckContext {
    /// The context of checks whose request is not observed.
    pub const NONE: Self = Self(None);

    /// The context of the checks of a request.
    #[must_use]
    pub fn new(request: RequestContext) -> Self {
        Self(Some(Arc::new(request)))
    }

    /// The caller's `x-request-id`.
    #[must_use]
    pub fn request_id(&self) -> Option<&Arc<str>> {
        self.0.as_ref()?.request_id.as_ref()
    }

    /// The place of the request in its trace.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.0.as_ref()?.trace.as_ref()
    }
}

impl TraceContext {
    /// Parses the value of a `traceparent` header, such as
    /// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`; `None` if it is malformed.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let version: [u8; 1] = decode_lower_hex(parts.next()?)?;
        let trace_id = decode_lower_hex(parts.next()?)?;
        let span_id = decode_lower_hex(parts.next()?)?;
        let _flags: [u8; 1] = decode_lower_hex(parts.next()?)?;
        // Later versions may append parts; version 0 has none, and ff is reserved.
        let has_valid_end = match version {
            [0] => parts.next().is_none(),
            [version] => version != 0xff,
        };
        let context = Self { trace_id, span_id };
        let is_valid = trace_id != [0; 16] && span_id != [0; 8];
        (has_valid_end && is_valid).then_some(context)
    }
}

fn decode_lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = value(high)? << 4 | value(low)?;
    }
    Some(bytes)
}

/// A script call that has ended, with or without a response.
#[derive(Debug)]
pub struct ScriptCall<'c> {
    /// The contexts of the checks that the call carried, in order. Checks of the node itself, such
    /// as renewals of leases, have none.
    pub contexts: &'c [CheckContext],
    /// The time from sending the call to its reply or failure. Calls in one pipeline have the same.
    pub duration: Duration,
}

/// Receives every call of the script that judges checks.
pub trait CallObserver: Send + Sync {
    /// Called when a call has ended. A check that is sent twice is in two calls.
    fn on_call(&self, call: &ScriptCall<'_>);
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_parsed_as_the_recommendation_has_it() {
        let context = TraceContext::parse(VALID).unwrap();
        assert_eq!(context.trace_id[..2], [0x4b, 0xf9]);
        assert_eq!(context.span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        let later = VALID.replacen("00-", "cc-", 1) + "-what-will-come";
        assert_eq!(TraceContext::parse(&later), Some(context));
        let malformed = [
            "",
            "00",
            &VALID[3..],
            &VALID[..52],
            &VALID.to_uppercase(),
            &(VALID.to_owned() + "-more"),
            &VALID.replace("00f067aa0ba902b7", "0000000000000000"),
            &VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            &VALID.replacen("00-", "ff-", 1),
            &VALID.replace("-4b", "-+b"),
            &VALID.replace("4736-", "47é-"),
        ];
        for value in malformed {
            assert_eq!(TraceContext::parse(value), None, "{value}");
        }
    }
}

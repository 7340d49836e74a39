//! The context of a check: the trace that its request belongs to, carried to the script call that
//! judges the check.
//!
//! A context changes no decision. The store itself neither logs nor counts it; it only hands it to
//! an observer of calls.

use std::time::Duration;

/// The identity of a check for tracing, as in W3C Trace Context; all zeros if it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckContext {
    /// The id of the request, the same in all services that it passes.
    pub request_id: [u8; 16],
    /// The id of the span in which the caller sent the check.
    pub span_id: [u8; 8],
}

impl CheckContext {
    /// The context of checks that belong to no trace.
    pub const NONE: Self = Self { request_id: [0; 16], span_id: [0; 8] };

    /// Parses the value of a `traceparent` header, such as
    /// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`; `None` if it is malformed.
    #[must_use]
    pub fn from_traceparent(value: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let version: [u8; 1] = decode_lower_hex(parts.next()?)?;
        let request_id = decode_lower_hex(parts.next()?)?;
        let span_id = decode_lower_hex(parts.next()?)?;
        let _flags: [u8; 1] = decode_lower_hex(parts.next()?)?;
        // Later versions may append parts; version 0 has none, and ff is reserved.
        let has_valid_end = match version {
            [0] => parts.next().is_none(),
            [version] => version != 0xff,
        };
        let context = Self { request_id, span_id };
        let is_valid = request_id != [0; 16] && span_id != [0; 8];
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
        let context = CheckContext::from_traceparent(VALID).unwrap();
        assert_eq!(context.request_id[..2], [0x4b, 0xf9]);
        assert_eq!(context.span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        let later = VALID.replacen("00-", "cc-", 1) + "-what-will-come";
        assert_eq!(CheckContext::from_traceparent(&later), Some(context));
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
            assert_eq!(CheckContext::from_traceparent(value), None, "{value}");
        }
    }
}

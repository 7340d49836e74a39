//! The place of a request in a trace, as in W3C Trace Context, and what its span says.

use std::sync::Arc;

/// A span in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The id of the trace, the same in all services that the request passes.
    pub trace_id: [u8; 16],
    /// The id of the span.
    pub span_id: [u8; 8],
    /// True if the span is recorded.
    pub is_sampled: bool,
}

/// The decision of a check, as its span has it.
pub struct SpanDecision {
    /// The plan, or else the policy or stage.
    pub plan: Option<Arc<str>>,
    /// The limit that refuses.
    pub limit: Option<Arc<str>>,
    /// The outcome, as metrics count it.
    pub outcome: &'static str,
    /// The place where the check was decided.
    pub decided_by: &'static str,
    /// True if the check was refused.
    pub is_refusal: bool,
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
        let [flags] = decode_lower_hex(parts.next()?)?;
        // Later versions may append parts; version 0 has none, and ff is reserved.
        let has_valid_end = match version {
            [0] => parts.next().is_none(),
            [version] => version != 0xff,
        };
        let context = Self { trace_id, span_id, is_sampled: flags & 1 == 1 };
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

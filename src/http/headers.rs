//! The rate-limit headers, once for all endpoints.
//!
//! `RateLimit-Policy` and `RateLimit` as in draft-ietf-httpapi-ratelimit-headers-10 (structured
//! fields, RFC 9651): lists of strings with parameters. A limit's name is printable ASCII by the
//! catalog's rules, so that quoting it needs nothing but escapes.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::engine::{Decision, Judged, Status};
use crate::limit::Unit;

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The largest integer of a structured field: 15 digits.
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// Adds what the limits of a decision say; shadow limits say nothing.
pub(super) fn add(headers: &mut HeaderMap, decision: &Decision) {
    if decision.status == Status::Refused {
        headers.insert(header::RETRY_AFTER, decision.retry_after.as_secs_ceil().into());
    }
    let enforced = || decision.limits.iter().filter(|judged| !judged.limit.shadow());
    let Some(tightest) = tightest(enforced()) else { return };
    let (mut policy, mut state) = (Line::default(), Line::default());
    for judged in enforced() {
        policy.item(judged.limit.name());
        policy.parameter(";q=", judged.limit.capacity());
        policy.parameter(";w=", judged.limit.window().as_secs_ceil().max(1));
        if judged.limit.unit().as_str() != Unit::BUILT_IN[0] {
            policy.0.extend_from_slice(b";qu=");
            policy.string(judged.limit.unit().as_str());
        }
        state.item(judged.limit.name());
        state.parameter(";r=", judged.standing.remaining);
        state.parameter(";t=", wait(judged));
    }
    headers.extend([
        (RATELIMIT_POLICY, policy.into()),
        (RATELIMIT, state.into()),
        (X_LIMIT, tightest.limit.capacity().into()),
        (X_REMAINING, tightest.standing.remaining.into()),
        (X_RESET, wait(tightest).into()),
    ]);
}

/// Seconds until this cost fits where it does not, else until one unit more is there.
fn wait(judged: &Judged) -> u64 {
    let standing = &judged.standing;
    if standing.fits { standing.next_unit } else { standing.retry_after }.as_secs_ceil()
}

/// The limit that refuses, else the one with the smallest part remaining.
fn tightest<'d>(limits: impl Iterator<Item = &'d Judged>) -> Option<&'d Judged> {
    limits.min_by(|a, b| {
        let part = |judged: &Judged, other: &Judged| {
            u128::from(judged.standing.remaining) * u128::from(other.limit.capacity())
        };
        a.standing.fits.cmp(&b.standing.fits).then_with(|| part(a, b).cmp(&part(b, a)))
    })
}

/// A structured field that grows.
#[derive(Default)]
struct Line(Vec<u8>);

impl Line {
    fn item(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.extend_from_slice(b", ");
        }
        self.string(name);
    }

    fn string(&mut self, text: &str) {
        self.0.push(b'"');
        for byte in text.bytes() {
            if matches!(byte, b'"' | b'\\') {
                self.0.push(b'\\');
            }
            self.0.push(byte);
        }
        self.0.push(b'"');
    }

    fn parameter(&mut self, name: &str, value: u64) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(itoa::Buffer::new().format(value.min(MAX_INTEGER)).as_bytes());
    }
}

impl From<Line> for HeaderValue {
    fn from(line: Line) -> Self {
        Self::from_maybe_shared(bytes::Bytes::from(line.0)).unwrap_or(Self::from_static(""))
    }
}

//! The rate limit headers of all responses to checks.
//!
//! `RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-10: structured
//! fields (RFC 9651), lists of strings with parameters. A limit's name is printable ASCII by the
//! catalog's rules, so it needs no encoding but escapes.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use bytes::{BufMut as _, BytesMut};

use crate::engine::{Decision, DecisionStatus, LimitOutcome};
use crate::limit::Unit;
use crate::time::Micros;

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The largest integer of a structured field: 15 digits.
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// The longest wait for which a client should keep its caller waiting. Clients of model providers
/// sleep as long as `Retry-After` says, unless `X-Should-Retry` is false.
const MAX_SLEEP: Micros = Micros::from_secs(60);

/// The usual size of all header values of a response, in bytes.
const USUAL_VALUES_BYTES: usize = 192;

/// Adds the headers for the enforced limits of a decision. Shadow limits are not reported.
pub(super) fn add_rate_limit_headers(headers: &mut HeaderMap, decision: &Decision) {
    let mut values = HeaderValues(BytesMut::with_capacity(USUAL_VALUES_BYTES));
    if matches!(decision.status, DecisionStatus::Refused | DecisionStatus::Overloaded) {
        let wait = decision.retry_after;
        headers.insert(header::RETRY_AFTER, values.number(wait.as_secs_ceil()));
        headers.insert(RETRY_AFTER_MS, values.number(wait.as_millis_ceil()));
        if wait > MAX_SLEEP {
            headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
    }
    let enforced = || decision.limits.iter().filter(|outcome| !outcome.limit.shadow());
    let Some(tightest) = tightest(enforced()) else { return };
    for outcome in enforced() {
        values.item(outcome.limit.name());
        values.parameter(";q=", outcome.limit.capacity());
        if outcome.limit.row().kind().counts_slots() {
            // The draft's unit of requests in flight, which no window renews.
            values.0.extend_from_slice(b";qu=\"concurrent-requests\"");
            continue;
        }
        values.parameter(";w=", outcome.limit.window().as_secs_ceil().max(1));
        if outcome.limit.unit().as_str() != Unit::BUILT_IN[0] {
            values.0.extend_from_slice(b";qu=");
            values.string(outcome.limit.unit().as_str());
        }
    }
    headers.insert(RATELIMIT_POLICY, values.finish());
    for outcome in enforced() {
        values.item(outcome.limit.name());
        values.parameter(";r=", outcome.status.remaining);
        values.parameter(";t=", reset_secs(outcome));
    }
    headers.insert(RATELIMIT, values.finish());
    headers.insert(X_LIMIT, values.number(tightest.limit.capacity()));
    headers.insert(X_REMAINING, values.number(tightest.status.remaining));
    headers.insert(X_RESET, values.number(reset_secs(tightest)));
}

/// The seconds until this cost fits; if it fits now, until one more unit is available.
fn reset_secs(outcome: &LimitOutcome) -> u64 {
    let status = &outcome.status;
    if status.fits { status.next_unit } else { status.retry_after }.as_secs_ceil()
}

/// The limit that refuses, else the one with the smallest remaining share.
fn tightest<'d>(limits: impl Iterator<Item = &'d LimitOutcome>) -> Option<&'d LimitOutcome> {
    limits.min_by(|a, b| {
        let part = |outcome: &LimitOutcome, other: &LimitOutcome| {
            u128::from(outcome.status.remaining) * u128::from(other.limit.capacity())
        };
        a.status.fits.cmp(&b.status.fits).then_with(|| part(a, b).cmp(&part(b, a)))
    })
}

/// Header values in one buffer, one after the other: a response has five of them.
struct HeaderValues(BytesMut);

impl HeaderValues {
    /// Appends an item to the current list.
    fn item(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.extend_from_slice(b", ");
        }
        self.string(name);
    }

    fn string(&mut self, text: &str) {
        self.0.put_u8(b'"');
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            let (plain, from) = rest.split_at(at);
            self.0.extend_from_slice(plain);
            self.0.extend_from_slice(&[b'\\', from[0]]);
            rest = &from[1..];
        }
        self.0.extend_from_slice(rest);
        self.0.put_u8(b'"');
    }

    fn parameter(&mut self, name: &str, value: u64) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(itoa::Buffer::new().format(value.min(MAX_INTEGER)).as_bytes());
    }

    /// A header value that is a number.
    fn number(&mut self, number: u64) -> HeaderValue {
        self.0.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self.finish()
    }

    /// The header value that was appended since the last one.
    fn finish(&mut self) -> HeaderValue {
        HeaderValue::from_maybe_shared(self.0.split().freeze())
            .unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use sfv::{BareItem, List, ListEntry, Parser};

    use super::*;
    use crate::algorithm::CounterState;
    use crate::algorithm::{Rate, Throttle};
    use crate::engine::DecidedBy;
    use crate::judge::Verdict;
    use crate::limit::{Charge, Charges, Limit, Subject};

    fn decision(limits: &[(String, bool)], allowed: bool) -> Decision {
        let charge = |(name, in_tokens): &(String, bool)| {
            let throttle = Throttle::new(Rate::new(7, Micros::from_secs(60)).unwrap(), 9).unwrap();
            let unit = if *in_tokens { Unit::new("total_tokens") } else { Unit::requests() };
            let limit = Limit::new(name, unit, throttle, false);
            Charge::new(Subject::policy("p", name), Arc::new(limit), 1)
        };
        let charges: Charges = limits.iter().map(charge).collect();
        // Without units if the check is refused.
        let level = if allowed { 0 } else { 9 * 60_000_000 };
        let state = CounterState::of_level(level);
        let states = limits.iter().map(|_| state).collect();
        let verdict = Verdict { now: Micros::from_secs(1), allowed, states };
        Decision::from_verdict(&charges, &verdict, DecidedBy::Memory)
    }

    fn items(headers: &HeaderMap, name: HeaderName) -> Vec<(String, Vec<(String, String)>)> {
        let list: List = Parser::new(headers[name].as_bytes()).parse().unwrap();
        let item = |entry: ListEntry| {
            let ListEntry::Item(item) = entry else { panic!("{entry:?} is no item") };
            let BareItem::String(name) = item.bare_item else { panic!("{item:?} is no string") };
            let text = |value: &BareItem| match value {
                BareItem::Integer(number) => number.to_string(),
                BareItem::String(text) => text.as_str().to_owned(),
                other => panic!("{other:?}"),
            };
            let parameters = item.params.iter().map(|(key, value)| (key.to_string(), text(value)));
            (name.as_str().to_owned(), parameters.collect())
        };
        list.into_iter().map(item).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A limit's name may contain a path that a client made up.
        #[test]
        fn a_structured_fields_parser_reads_limits_with_any_name(
            limits in vec(("[ -~]{1,80}", any::<bool>()), 1..4),
            allowed in any::<bool>(),
        ) {
            let mut headers = HeaderMap::new();
            add_rate_limit_headers(&mut headers, &decision(&limits, allowed));
            let (left, wait) = if allowed { ("8", "9") } else { ("0", "9") };
            let pairs = |pairs: &[(&str, &str)]| -> Vec<_> {
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
            };
            let state = |(name, _): &(String, bool)| (name.clone(), pairs(&[("r", left), ("t", wait)]));
            let expected: Vec<_> = limits.iter().map(state).collect();
            prop_assert_eq!(items(&headers, RATELIMIT), expected);
            let policy = |(name, in_tokens): &(String, bool)| {
                let mut parameters = pairs(&[("q", "9"), ("w", "78")]);
                parameters.extend(in_tokens.then(|| ("qu".to_owned(), "total_tokens".to_owned())));
                (name.clone(), parameters)
            };
            let expected: Vec<_> = limits.iter().map(policy).collect();
            prop_assert_eq!(items(&headers, RATELIMIT_POLICY), expected);
            prop_assert_eq!(&headers[X_LIMIT], "9");
            prop_assert_eq!(&headers[X_REMAINING], left);
            prop_assert_eq!(&headers[X_RESET], wait);
            prop_assert_eq!(headers.contains_key(header::RETRY_AFTER), !allowed);
        }
    }
}

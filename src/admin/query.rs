//! The query parameters of all endpoints: each request has those that its endpoint knows.
//!
//! A parameter that had no effect would widen a list, or show what was not requested, and nobody
//! would notice. So an unknown one is refused, as is a value that its endpoint cannot use. Handlers
//! read the parameters themselves.

use std::borrow::Cow;

use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use percent_encoding::percent_decode_str;

use super::error::AdminError;
use crate::telemetry::DecisionOutcome;

/// The values that a parameter takes.
#[derive(Clone, Copy, PartialEq)]
enum Values {
    /// Any text.
    Text,
    /// Any text, and the parameter may be repeated.
    Texts,
    /// A whole number from 1.
    Count,
    /// A whole number from 1 to 1,000.
    Rate,
    /// `true` or `false`, in any case.
    Flag,
    /// This word.
    Word(&'static str),
    /// One of these words.
    OneOf(&'static [&'static str]),
}

const POSITION: (&str, Values) = ("position", Values::Text);
const FAIL_ON_WARNINGS: (&str, Values) = ("failonwarnings", Values::Flag);
/// Texts for people are left out of an import in any case.
const IGNORE: (&str, Values) = ("ignore", Values::Word("documentation"));
/// The treatment of a document's base path by an import.
const BASE_PATH: (&str, Values) = ("basepath", Values::Word("ignore"));
const LIMIT: (&str, Values) = ("limit", Values::Count);

/// The parameters of the list of API keys.
const KEY_LIST: [(&str, Values); 7] = [
    POSITION,
    LIMIT,
    ("name", Values::Text),
    ("customerId", Values::Text),
    ("includeValues", Values::Flag),
    ("includeDigests", Values::Flag),
    ("scan", Values::Count),
];

/// The parameters of the endpoint that serves this path.
fn parameters(method: &Method, path: &str) -> &'static [(&'static str, Values)] {
    use Values::{Count, Flag, OneOf, Rate, Text, Texts, Word};
    let path: Vec<&str> = path.split('/').skip(1).collect();
    match (method.as_str(), &path[..]) {
        ("GET" | "HEAD", path) => match path {
            ["restapis" | "policies"] | ["restapis", _, "deployments"] => &[POSITION, LIMIT],
            ["restapis", _, "resources"] => &[POSITION, LIMIT, ("embed", Word("methods"))],
            ["restapis", _, "resources", _] => &[("embed", Word("methods"))],
            ["restapis", _, "deployments", _] => &[("embed", Word("apisummary"))],
            ["restapis", _, "stages"] => &[("deploymentId", Text)],
            ["restapis", _, "stages", _, "exports", _] => &[("extensions", Text)],
            ["apikeys"] => &KEY_LIST,
            ["apikeys", _] => &[("includeValue", Flag)],
            ["usageplans"] => &[POSITION, LIMIT, ("keyId", Text)],
            ["usageplans", _, "keys"] => &[POSITION, LIMIT, ("name", Text)],
            ["usageplans", _, "usage"] => &[
                POSITION,
                LIMIT,
                ("keyId", Text),
                ("startDate", Text),
                ("endDate", Text),
                ("unit", Text),
                ("format", Text),
            ],
            ["policies", _, "usage"] => &[("key", Text)],
            ["audit"] => &[POSITION, LIMIT, ("path", Text)],
            ["top"] => &[
                ("limit", Text),
                ("by", OneOf(&["refused", "used"])),
                ("window", OneOf(&["minute", "hour"])),
                ("n", Count),
            ],
            ["tail"] => &[
                ("all", Flag),
                ("outcome", OneOf(&DecisionOutcome::WORDS)),
                ("plan", Text),
                ("key", Text),
                ("limit", Text),
                ("rate", Rate),
            ],
            _ => &[],
        },
        ("POST", ["restapis"]) => &[
            ("mode", Word("import")),
            FAIL_ON_WARNINGS,
            IGNORE,
            BASE_PATH,
            ("endpointConfigurationTypes", Text),
        ],
        ("PUT", ["restapis", _]) => &[("mode", Text), FAIL_ON_WARNINGS, IGNORE, BASE_PATH],
        ("POST", ["apikeys"]) => &[("mode", Text), ("format", Text), FAIL_ON_WARNINGS],
        ("DELETE", ["tags", _]) => &[("tagKeys", Texts)],
        _ => &[],
    }
}

/// Refuses a request with a parameter that its endpoint does not know, or whose value it cannot
/// use.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let query = request.uri().query().unwrap_or_default();
    match find_fault(parameters(method, path), query) {
        Some(why) => AdminError::bad_request(why).into_response(),
        None => next.run(request).await,
    }
}

/// The reason why a query is invalid.
fn find_fault(known: &[(&str, Values)], query: &str) -> Option<String> {
    let mut seen: Vec<Cow<'_, str>> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name), decode(value));
        let Some((_, values)) = known.iter().find(|(known, _)| *known == name) else {
            return Some(unknown_parameter(&name, known));
        };
        if *values != Values::Texts && seen.contains(&name) {
            return Some(format!("the query has {name} twice"));
        }
        if let Some(expected) = values.refuse(&value) {
            return Some(format!("Invalid {name}: expected {expected}"));
        }
        seen.push(name);
    }
    None
}

fn unknown_parameter(name: &str, known: &[(&str, Values)]) -> String {
    let name: String = name.chars().take(100).collect();
    let known: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!("the query parameter `{name}` is not known here; this request has {known}")
}

/// A name or a value of a query in clear text.
fn decode(written: &str) -> Cow<'_, str> {
    if written.contains('+') {
        let spaced = written.replace('+', " ");
        return percent_decode_str(&spaced).decode_utf8_lossy().into_owned().into();
    }
    percent_decode_str(written).decode_utf8_lossy()
}

impl Values {
    /// The values that are expected instead of this one, if it is not one of them.
    fn refuse(self, value: &str) -> Option<Cow<'static, str>> {
        match self {
            Self::Text | Self::Texts => None,
            Self::Count => {
                let is_count = matches!(value.parse::<usize>(), Ok(1..));
                (!is_count).then_some("a whole number from 1".into())
            }
            Self::Rate => {
                let is_rate = matches!(value.parse::<u32>(), Ok(1..=1_000));
                (!is_rate).then_some("a whole number from 1 to 1000".into())
            }
            Self::Flag => {
                let is_flag = ["true", "false"].iter().any(|flag| value.eq_ignore_ascii_case(flag));
                (!is_flag).then_some("true or false".into())
            }
            Self::Word(word) => (value != word).then_some(word.into()),
            Self::OneOf(words) => {
                let (last, others) = words.split_last()?;
                let expected = || format!("{} or {last}", others.join(", ")).into();
                (!words.contains(&value)).then(expected)
            }
        }
    }
}

/// True if a parameter of the kind `true` or `false` is true.
pub(super) fn is_true(flag: Option<&str>) -> bool {
    flag.is_some_and(|flag| flag.eq_ignore_ascii_case("true"))
}

//! HTTP methods and paths: patterns of a catalog, normalization of requests, and matching.
//!
//! A path is normalized as the service behind the gateway most likely does: the query and the
//! parameters of segments removed, decoded once, `//` and dot segments resolved. `/a%2fb`, `/a//b`,
//! `/a;x=1/b` and `/x/..;/a/b` are all `/a/b`, so none of them bypasses a limit on it. Letters keep
//! their case, and a backslash is a character like any other.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A pattern `METHOD PATH` of a catalog.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RoutePattern {
    method: Box<str>,
    /// True if the method is `ANY`: all methods of the path together.
    is_any_method: bool,
    segments: Vec<Segment>,
}

/// The path of a resource in AWS' syntax: `/pets/{id}`, `/{proxy+}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPattern(Vec<Segment>);

impl PathPattern {
    /// Reads the path of a resource. No other text matches what it should not: it is compared with
    /// the normal form of requests.
    pub(super) fn of_resource(path: &str) -> Self {
        let segment = |part: &str| match part.strip_prefix('{').and_then(|it| it.strip_suffix('}'))
        {
            Some(name) if name.ends_with('+') => Segment::Rest,
            Some(_) => Segment::Any,
            None => Segment::Literal(part.into()),
        };
        Self(path.split('/').filter(|part| !part.is_empty()).map(segment).collect())
    }

    /// The precedence of paths: literal segments before `{name}` before `{name+}`.
    pub(super) fn cmp_specificity(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }

    /// True if it matches a path in normal form.
    pub(super) fn matches(&self, path: &str) -> bool {
        segments_match(&self.0, path)
    }
}

/// A segment of a pattern. The order of variants is that of precedence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Segment {
    Literal(Box<str>),
    /// `{name}` matches any one segment. The name is for people.
    Any,
    /// `*` at the end matches one or more segments.
    Rest,
}

impl RoutePattern {
    /// Parses `METHOD PATH`; the error says what to write.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const HINT: &str = "write a method and a path, as in `POST /v1/items/{id}` or `GET /files/*`, `ANY /path` for all methods of a path together, or `*` for every other method";
        let mut words = text.split_ascii_whitespace();
        let (Some(method), Some(path), None) = (words.next(), words.next(), words.next()) else {
            return Err(HINT.into());
        };
        let method: Box<str> = normalize_method(method).ok_or(HINT)?.into();
        let path = path.strip_prefix('/').ok_or(HINT)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = Vec::new();
        for segment in path.split('/').filter(|_| !path.is_empty()) {
            if segments.last() == Some(&Segment::Rest) {
                return Err("`*` may only be the last segment".into());
            }
            segments.push(match segment {
                "" | "." | ".." => {
                    return Err(
                        "it has an empty or a dot segment, which normalized paths never have"
                            .into(),
                    );
                }
                "*" => Segment::Rest,
                name if name.starts_with('{') && name.ends_with('}') => Segment::Any,
                name if name.contains(['{', '}', '*', '%', '?', '#', ';']) => {
                    return Err(
                        "a segment is plain text (decoded, without a `;` and what follows it), `{name}`, or `*` at the end"
                            .into(),
                    );
                }
                name => Segment::Literal(name.into()),
            });
        }
        Ok(Self { is_any_method: &*method == "ANY", method, segments })
    }

    /// The precedence of patterns: literal segments before `{name}` before `*`, and on the same path
    /// a method before `ANY`.
    pub(super) fn cmp_specificity(&self, other: &Self) -> std::cmp::Ordering {
        self.segments.cmp(&other.segments).then(self.is_any_method.cmp(&other.is_any_method))
    }

    /// True if it matches a request. `ANY` does not match HEAD, which counts as GET unless it is
    /// listed by its name.
    pub(super) fn matches(&self, route: &HttpRoute<'_>) -> bool {
        let is_method =
            if self.is_any_method { route.method != "HEAD" } else { *self.method == *route.method };
        is_method && segments_match(&self.segments, &route.path)
    }
}

/// True if the segments match a path in normal form.
fn segments_match(segments: &[Segment], path: &str) -> bool {
    let mut requested = path[1..].split('/').filter(|segment| !segment.is_empty());
    for segment in segments {
        match (segment, requested.next()) {
            (Segment::Rest, Some(_)) => return true,
            (Segment::Any, Some(_)) => {}
            (Segment::Literal(literal), Some(name)) if **literal == *name => {}
            _ => return false,
        }
    }
    requested.next().is_none()
}

/// The method and the path of a request in normal form.
pub(super) struct HttpRoute<'a> {
    pub(super) method: Cow<'a, str>,
    pub(super) path: Cow<'a, str>,
}

impl HttpRoute<'_> {
    /// `METHOD PATH` in printable ASCII, for the names of limits in responses.
    pub(super) fn name(&self) -> String {
        use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
        const QUOTED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'\\').add(b'%');
        format!("{} {}", self.method, utf8_percent_encode(&self.path, QUOTED))
    }
}

/// The method in capitals; `None` if it is not a token (RFC 9110, 5.6.2).
pub(super) fn normalize_method(method: &str) -> Option<Cow<'_, str>> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if method.is_empty() || !method.bytes().all(is_token) || method == "*" {
        return None;
    }
    let upper = method.bytes().any(|byte| byte.is_ascii_lowercase());
    Some(if upper { method.to_ascii_uppercase().into() } else { method.into() })
}

/// The path in normal form; the error completes "`path` …".
pub(crate) fn normalize_path(path: &str) -> Result<Cow<'_, str>, &'static str> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if !path.starts_with('/') {
        return Err("must begin with a slash");
    }
    let decoded = match cut_parameters(path) {
        Cow::Borrowed(path) if path.contains('%') => percent_decode(path)?,
        Cow::Owned(path) if path.contains('%') => percent_decode(&path)?.into_owned().into(),
        path => path,
    };
    if decoded.chars().any(char::is_control) {
        return Err("must not contain control characters");
    }
    let plain = decoded.len() == 1
        || !(decoded.contains("//") || decoded.contains("/.") || decoded.ends_with('/'));
    Ok(if plain { decoded } else { remove_dot_segments(&decoded).into() })
}

/// The ways in which services may read the path of a request that is not plain: with an encoded
/// slash inside its segment, parameters as a part of theirs, or dot segments as names. `None` stands
/// for one that cannot be decoded. Most paths are plain and have none but their normal form.
pub(super) fn other_readings(path: &str) -> Vec<Option<String>> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if !path.contains([';', '%']) && !path.contains("/.") {
        return Vec::new();
    }
    let kept = [false, true];
    let all = kept.into_iter().flat_map(|it| kept.map(|other| (it, other)));
    all.flat_map(|(slashes, parameters)| {
        let path = if parameters { path.into() } else { cut_parameters(path) };
        // An encoded percent sign stays when the rest is decoded.
        let path = if slashes {
            path.replace("%2f", "%252F").replace("%2F", "%252F")
        } else {
            path.into_owned()
        };
        let read = percent_decode(&path).ok().map(Cow::into_owned);
        [read.as_deref().map(remove_dot_segments), read]
    })
    .collect()
}

/// The path without the parameters of its segments (RFC 3986, 3.3): what begins with a `;` that is
/// not encoded.
fn cut_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return path.into();
    }
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/").into()
}

fn percent_decode(path: &str) -> Result<Cow<'_, str>, &'static str> {
    let mut rest = path.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        let escape = rest
            .get(at + 1..at + 3)
            .ok_or("has a % that is not followed by two hexadecimal digits")?;
        if !escape.iter().all(u8::is_ascii_hexdigit) {
            return Err("has a % that is not followed by two hexadecimal digits");
        }
        rest = &rest[at + 3..];
    }
    percent_decode_str(path).decode_utf8().map_err(|_| "is not UTF-8 after decoding")
}

fn remove_dot_segments(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equivalent_paths_have_the_same_normal_form() {
        let same = [
            "/a/b",
            "/a/b/",
            "//a//b",
            "/a/./b",
            "/x/../a/b",
            "/../a/b",
            "/a%2Fb",
            "/%61/b",
            "/a/b?c=/d",
            "/a/b#c",
            "/a/b/c/..",
            "/a/%2e/b",
            "/a;x=1/b",
            "/a/b;x=1;y=2",
            "/;x/a;/b;?c",
            "/x/..;x=1/a/b",
            "/..;/a/b",
            "/x/%2e%2e;/a/%62;%zz",
        ];
        for path in same {
            assert_eq!(normalize_path(path).unwrap(), "/a/b", "{path}");
        }
        assert_eq!(normalize_path("/").unwrap(), "/");
        assert_eq!(normalize_path("/..").unwrap(), "/");
        assert_eq!(normalize_path("/;x").unwrap(), "/");
        assert_eq!(normalize_path("/a%3Bb").unwrap(), "/a;b", "it is no parameter");
        assert_eq!(normalize_path("/a%252Fb").unwrap(), "/a%2Fb", "decoded once");
    }

    #[test]
    fn invalid_paths_are_refused() {
        for path in ["", "a/b", "http://h/a", "/%", "/%4", "/%zz", "/%ff", "/a%00b", "/a%0ab", "*"]
        {
            assert!(normalize_path(path).is_err(), "{path}");
        }
    }

    fn matches(pattern: &str, method: &str, path: &str) -> bool {
        let route = HttpRoute {
            method: normalize_method(method).unwrap(),
            path: normalize_path(path).unwrap(),
        };
        RoutePattern::parse(pattern).unwrap().matches(&route)
    }

    #[test]
    #[rustfmt::skip]
    fn patterns_match_whole_segments() {
        let cases = [
            ("GET /a",          "GET",  "/a",       true),
            ("GET /a",          "get",  "/a",       true),
            ("GET /a",          "POST", "/a",       false),
            ("GET /a",          "GET",  "/a/b",     false),
            ("GET /a",          "GET",  "/ab",      false),
            ("GET /a/{x}/c",    "GET",  "/a/b/c",   true),
            ("GET /a/{x}/c",    "GET",  "/a/c",     false),
            ("GET /a/*",        "GET",  "/a/b/c",   true),
            ("GET /a/*",        "GET",  "/a",       false),
            ("GET /",           "GET",  "/",        true),
            ("GET /",           "GET",  "/a",       false),
            ("GET /*",          "GET",  "/a",       true),
            ("ANY /a",          "GET",  "/a",       true),
            ("any /a",          "PURGE", "/a",      true),
            ("ANY /a",          "HEAD", "/a",       false),
            ("ANY /a",          "GET",  "/a/b",     false),
        ];
        for (pattern, method, path, expected) in cases {
            assert_eq!(matches(pattern, method, path), expected, "{pattern} and {method} {path}");
        }
    }

    #[test]
    fn invalid_patterns_are_refused() {
        for text in [
            "",
            "GET",
            "/a",
            "GET a",
            "GET /a b",
            "GET /a/*/b",
            "GET /a//b",
            "GET /a/../b",
            "GET /a{x}",
            "GET /a;x",
            "* /a",
        ] {
            assert!(RoutePattern::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn normalizing_twice_changes_nothing(path in "/[a-c./%;]{0,12}") {
            if let Ok(once) = normalize_path(&path) {
                prop_assert!(once.starts_with('/') && !once.contains("//"));
                if !once.contains(['%', '?', '#']) {
                    prop_assert_eq!(normalize_path(&once).unwrap(), once.clone());
                }
            }
        }
    }
}

//! Entry points of the fuzz targets in `fuzz/`: one function for each parser that is written by
//! hand.
//!
//! A target takes any bytes. It panics if the parser does, or if a result breaks a property that
//! always holds. The service does not contain this module: it is compiled for tests, which replay
//! `fuzz/seeds`, and with the feature `fuzzing`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use axum::http::{HeaderMap, HeaderValue, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::admin::verify_signature;
use crate::catalog::envoy::Domains;
use crate::catalog::{Catalog, CheckRequest, Cost, PolicyKey, normalize_path, parse_address};
use crate::commands::import::{parse_condition, parse_variable};
use crate::http::client_address;
use crate::inference::{MAX_ACTUAL, MAX_ESTIMATE, ProviderUsage};
use crate::limit::{Charge, Subject};
use crate::reservation::{Handle, MAX_HANDLE_LEN};
use crate::settings::{AccessKey, Settings, SettingsSources};
use crate::store::{RedisUrl, decode_usage};
use crate::time::{Clock as _, Micros, SystemClock};

/// The name of a target, and its function.
type FuzzTarget = (&'static str, fn(&[u8]));

/// All targets. `fuzz/Cargo.toml` and `fuzz/seeds` have the same names.
const TARGETS: [FuzzTarget; 11] = [
    ("catalog", parse_catalog),
    ("cel", parse_cel),
    ("client_address", find_client_address),
    ("envoy_config", parse_envoy_config),
    ("envoy_pattern", match_envoy_pattern),
    ("path", resolve_path),
    ("reservation_handle", parse_handle),
    ("sigv4", verify_sigv4),
    ("store_url", parse_store_url),
    ("token_usage", parse_token_usage),
    ("usage_rows", decode_usage_rows),
];

/// Runs the target with this name on `data`, if there is one.
pub fn run(name: &str, data: &[u8]) {
    for (_, target) in TARGETS.iter().filter(|target| target.0 == name) {
        target(data);
    }
}

/// `data` up to the first newline, and the rest.
fn split_line(data: &str) -> (&str, &str) {
    data.split_once('\n').unwrap_or((data, ""))
}

fn parse_catalog(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let _invalid_or_not = Catalog::parse(text, "fuzzed");
}

fn parse_envoy_config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let _invalid_or_not = Domains::parse("fuzzed", std::iter::once(("file", text)));
}

/// The first line is a pattern, the second a descriptor's value: they match as their definition
/// says.
fn match_envoy_pattern(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (pattern, value) = split_line(text);
    let quoted = serde_json::json!(pattern);
    let config = format!(
        "{{domain: d, descriptors: [{{key: k, value: {quoted}, rate_limit: {{unit: day, requests_per_unit: 1}}}}]}}"
    );
    let Ok(domains) = Domains::parse("fuzzed", std::iter::once(("file", config.as_str()))) else {
        return;
    };
    let matched = domains.get("d").and_then(|domain| domain.match_descriptor(&[("k", value)]));
    // A rule without a value matches every value.
    let expected = pattern.is_empty() || is_match(pattern.as_bytes(), value.as_bytes());
    assert_eq!(matched.is_some(), expected, "{pattern:?} and {value:?}");
}

/// True if `value` is `pattern` with each `*` replaced by any bytes. Row by row: `ends[i]` is true
/// if the pattern so far matches the first `i` bytes.
fn is_match(pattern: &[u8], value: &[u8]) -> bool {
    let mut ends = vec![false; value.len() + 1];
    ends[0] = true;
    for &byte in pattern {
        let before = ends;
        ends = vec![false; value.len() + 1];
        for end in 0..=value.len() {
            ends[end] = if byte == b'*' {
                before[..=end].contains(&true)
            } else {
                end > 0 && value[end - 1] == byte && before[end - 1]
            };
        }
    }
    ends[value.len()]
}

fn parse_cel(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(comparisons) = parse_condition(text) {
        assert!(comparisons.iter().all(|(key, _)| !key.is_empty()), "an empty key in {text:?}");
    }
    if let Ok(key) = parse_variable(text) {
        assert!(!key.is_empty(), "an empty key in {text:?}");
    }
}

fn parse_store_url(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match text.parse::<RedisUrl>() {
        Ok(url) => assert_eq!(
            url.is_cluster(),
            text.split("://").next().is_some_and(|scheme| scheme.ends_with("+cluster"))
        ),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The catalog of [`resolve_path`]: each kind of segment, and methods that are not listed.
const ROUTES: &str = r#"
version: 1
apis:
  - id: api
    stages:
      - name: stage
        methods:
          "GET /a/{name}": { throttle: { rate: 1/s, burst: 1 } }
          "GET /a/b": { throttle: { rate: 1/s, burst: 1 } }
          "GET /b/*": { throttle: { rate: 1/s, burst: 1 } }
          "*": { throttle: { rate: 1/s, burst: 1 } }
policies: [{ name: p, throttle: { rate: 1/s, burst: 1 } }]
"#;

/// The first line is a method, the second a path. A normal path is the normal form of itself.
fn resolve_path(data: &[u8]) {
    static CATALOG: LazyLock<Option<Catalog>> =
        LazyLock::new(|| Catalog::parse(ROUTES, "the routes").ok());
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/');
    let Ok(text) = str::from_utf8(data) else { return };
    let (method, path) = split_line(text);
    if let Ok(normal) = normalize_path(path) {
        let segments = || normal[1..].split('/');
        let is_normal = normal.starts_with('/')
            && (normal.len() == 1 || segments().all(|segment| !["", ".", ".."].contains(&segment)))
            && !normal.contains(char::is_control);
        assert!(is_normal, "{path:?} became {normal:?}");
        let encoded = utf8_percent_encode(&normal, ENCODED).to_string();
        assert_eq!(normalize_path(&encoded).as_deref(), Ok(&*normal), "{path:?}");
    }
    let Some(catalog) = CATALOG.as_ref() else { return };
    let request = CheckRequest {
        api: Some("api"),
        stage: Some("stage"),
        method: Some(method),
        path: Some(path),
        policies: smallvec::smallvec![PolicyKey { policy: "p", key: "k", index: None }],
        cost: Cost::Requests(1),
        after_the_fact: false,
        model: None,
        usage: None,
    };
    let _resolved_or_not = catalog.resolve(&request, None, Micros::new(0));
}

/// The first line is a URI, the second the header `authorization`, the rest the body. The date is
/// now, so that a signature of another time does not end the check early.
fn verify_sigv4(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let ((uri, rest), now) = (split_line(text), SystemClock.now().get() / 1_000_000);
    let (authorization, body) = split_line(rest);
    let Ok(now) = jiff::Timestamp::from_second(now.cast_signed()) else { return };
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let authorization = authorization.replace("TODAY", &stamp[..8]);
    let request = Request::get(uri)
        .header("host", "localhost")
        .header("x-amz-date", stamp)
        .header("authorization", authorization);
    let Ok(request) = request.body(()) else { return };
    let key =
        AccessKey { id: "AKIATEST".into(), secret: "a secret that is not in the input".into() };
    let verified = verify_signature(&key, &request.into_parts().0, body.as_bytes());
    assert!(verified.is_err(), "a forged signature was accepted");
}

/// The lines are the values of one forwarding header; of `Forwarded` if the first line begins with
/// that name. An address that is found is not changed by what its client had written before it.
fn find_client_address(data: &[u8]) {
    static SETTINGS: LazyLock<Option<Settings>> = LazyLock::new(|| {
        let trusted = ("TOLLGATE_TRUSTED_PEERS".into(), "127.0.0.0/8, 10.0.0.0/8, ::1".into());
        let sources = SettingsSources { environment: vec![trusted], ..SettingsSources::default() };
        Settings::load(&sources).ok()
    });
    let (Ok(text), Some(settings)) = (str::from_utf8(data), SETTINGS.as_ref()) else { return };
    let (header, lines) = match text.strip_prefix("forwarded\n") {
        Some(lines) => ("forwarded", lines),
        None => ("x-forwarded-for", text),
    };
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let find = |prefix: &str| {
        let mut headers = HeaderMap::new();
        for line in format!("{prefix}{lines}").split('\n') {
            headers.append(header, HeaderValue::from_str(line).ok()?);
        }
        client_address(&headers, header, peer, &settings.trusted_peers).ok()
    };
    let Some(client) = find("") else { return };
    assert_eq!(parse_address(&client.to_string()), Some(client));
    if !settings.trusted_peers.contains(client) {
        for prefix in
            ["192.0.2.1,", "for=192.0.2.1,", "no address,", "for=\",", "for=192.0.2.1\n", "\n"]
        {
            assert_eq!(find(prefix), Some(client), "{prefix:?} before {lines:?}");
        }
    }
}

/// The first byte is the length of a subject's rows, which follow; the rest are its days.
fn decode_usage_rows(data: &[u8]) {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(Catalog::example);
    let Some((&len, rest)) = data.split_first() else { return };
    let (rows, days) = rest.split_at(usize::from(len).min(rest.len()));
    let strings = [rows, days].map(|string| (!string.is_empty()).then(|| string.to_vec()));
    for limit in CATALOG.plan_limits("free").into_iter().flat_map(|limits| limits.iter()) {
        let charge = Charge::new(Subject::api_key("demo"), Arc::clone(limit), 1);
        let _usage_or_bad_row = decode_usage(&charge, &strings);
    }
}

/// A handle that can be read is written again as it was, and its check has a handle.
fn parse_handle(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Some(handle) = Handle::parse(text) else { return };
    assert_eq!(handle.encode(), text);
    assert!(text.len() <= MAX_HANDLE_LEN);
    if let Ok(terms) = handle.check.encode(handle.terms.secret()) {
        let again = Handle::new(handle.name, terms).map(|again| again.check);
        assert_eq!(again, Some(handle.check));
    }
}

/// A provider's usage object: what a check takes, a settlement takes as well, and alike.
fn parse_token_usage(data: &[u8]) {
    let actual = serde_json::from_slice::<ProviderUsage<MAX_ACTUAL>>(data);
    if let Ok(ProviderUsage(estimate)) = serde_json::from_slice::<ProviderUsage<MAX_ESTIMATE>>(data)
    {
        let actual = actual.as_ref().map(|ProviderUsage(usage)| *usage).ok();
        assert_eq!(actual, Some(estimate));
    }
    let Ok(ProviderUsage(usage)) = actual else { return };
    let of_cache = usage.cached_input.unwrap_or(0) + usage.cache_write.unwrap_or(0);
    assert!(of_cache <= usage.input.unwrap_or(0), "{usage:?}");
    let sum = usage.input.zip(usage.output).map(|(input, output)| input + output);
    assert!(sum.is_none() || usage.total == sum, "{usage:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    fn fuzz_folder() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
    }

    #[test]
    fn every_seed_passes_its_target() {
        let mut folders = BTreeSet::new();
        for folder in fs::read_dir(fuzz_folder().join("seeds")).unwrap() {
            let folder = folder.unwrap().path();
            let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
            let mut seeds = 0;
            for seed in fs::read_dir(&folder).unwrap() {
                let seed = seed.unwrap().path();
                let data = fs::read(&seed).unwrap();
                let passes = std::panic::catch_unwind(|| run(&name, &data)).is_ok();
                assert!(passes, "{}", seed.display());
                seeds += 1;
            }
            assert!(seeds > 0, "{name} has no seeds");
            folders.insert(name);
        }
        let names: BTreeSet<String> = TARGETS.iter().map(|target| target.0.to_owned()).collect();
        assert_eq!(folders, names);
    }

    #[test]
    fn every_target_has_a_program() {
        let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
        for (name, _) in TARGETS {
            assert!(
                manifest.contains(&format!("name = \"{name}\"\n")),
                "{name} in fuzz/Cargo.toml"
            );
            let program = fuzz_folder().join(format!("fuzz_targets/{name}.rs"));
            assert!(
                fs::read_to_string(program).unwrap().contains(&format!("run(\"{name}\", data)"))
            );
        }
    }

    #[test]
    fn a_star_of_the_definition_stands_for_any_bytes() {
        assert!(is_match(b"a*c", b"abc") && is_match(b"*", b"") && is_match(b"a", b"a"));
        assert!(!is_match(b"ab*bc", b"abc") && !is_match(b"a*", b"ba") && !is_match(b"", b"a"));
    }
}

//! Reading of YAML and JSON that people write, with errors in their words.
//!
//! An error has the path of the value and, in YAML, its line. It names no type of this program and
//! quotes no value: API keys stand in catalogs in the clear.

mod faults;
mod message;
mod whole_number;
mod word;

pub use faults::faults_at;
use message::PlainMessages;
pub use message::{Expected, plain_message};
use serde::de::DeserializeOwned;
pub use whole_number::WholeNumber;
pub(crate) use word::read_from_text_only;

/// The most values of a YAML text: names of members, texts and numbers, lists and objects. An API
/// key has about ten.
const MAX_YAML_VALUES: usize = 10_000_000;
/// The most bytes of all texts and numbers in a YAML text.
const MAX_YAML_BYTES: usize = 256 << 20;
/// The most values of a YAML text that a request has.
const MAX_REQUEST_VALUES: usize = 500_000;
/// The most bytes of all texts and numbers in a YAML text that a request has.
const MAX_REQUEST_BYTES: usize = 32 << 20;

/// Reads a value from YAML. With `strict_booleans` only `true` and `false` are booleans; without
/// it, `yes`, `no`, `on` and `off` are as well (YAML 1.1).
///
/// # Errors
/// If the text is not YAML, or is not of the value's form.
pub fn from_yaml<T: DeserializeOwned>(text: &str, strict_booleans: bool) -> Result<T, String> {
    from_yaml_within(text, strict_booleans, MAX_YAML_VALUES, MAX_YAML_BYTES)
}

/// Reads a YAML text of a request, of which any may be made of aliases: at most 500,000 values.
///
/// # Errors
/// If the text is not YAML, or has more values or bytes.
pub fn from_request_yaml(text: &str) -> Result<serde_json::Value, String> {
    from_yaml_within(text, true, MAX_REQUEST_VALUES, MAX_REQUEST_BYTES)
}

fn from_yaml_within<T: DeserializeOwned>(
    text: &str,
    strict_booleans: bool,
    max_values: usize,
    max_bytes: usize,
) -> Result<T, String> {
    let budget = serde_saphyr::budget! {
        max_nodes: max_values,
        max_events: 3 * max_values,
        max_total_scalar_bytes: max_bytes,
        // One anchor may serve every key; what aliases expand to is bounded as it is.
        enforce_alias_anchor_ratio: false,
    };
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: strict_booleans,
        budget: budget,
    };
    let mut path = String::new();
    let read = |yaml: serde_saphyr::Deserializer<'_, '_>| {
        serde_path_to_error::deserialize(yaml).map_err(|error| {
            path = error.path().to_string();
            error.into_inner()
        })
    };
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, read);
    read.map_err(|error| {
        let message = error.without_snippet().render_with_formatter(&PlainMessages);
        at_path(&path, &message)
    })
}

/// Reads a value from JSON that has been parsed.
///
/// # Errors
/// If the JSON is not of the value's form.
pub fn from_json<T: DeserializeOwned>(json: &serde_json::Value) -> Result<T, String> {
    from_json_at("", json)
}

/// Reads a value from JSON that stands at the path `at` in a larger value.
///
/// # Errors
/// If the JSON is not of the value's form.
pub fn from_json_at<T: DeserializeOwned>(at: &str, json: &serde_json::Value) -> Result<T, String> {
    serde_path_to_error::deserialize(json).map_err(|error| {
        let path = place_below(at, &error.path().to_string());
        at_path(&path, &plain_message(error.inner()))
    })
}

/// The path of what stands at the path `below` of a value at `at`.
fn place_below(at: &str, below: &str) -> String {
    match below {
        "" | "." => at.into(),
        below if at.is_empty() || below.starts_with('[') => format!("{at}{below}"),
        below => format!("{at}.{below}"),
    }
}

/// The message with the path before it, unless that is the whole document.
fn at_path(path: &str, message: &str) -> String {
    if path.is_empty() || path == "." { message.into() } else { format!("{path}: {message}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Form {
        #[serde(rename = "id")]
        _id: String,
        #[serde(rename = "count")]
        _count: Option<u64>,
        #[serde(rename = "share")]
        _share: Option<f64>,
        #[serde(rename = "on")]
        _on: Option<bool>,
        #[serde(rename = "names")]
        _names: Option<Vec<String>>,
        #[serde(rename = "period")]
        _period: Option<Period>,
        #[serde(rename = "below")]
        _below: Option<BTreeMap<String, Form>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Period {
        Day,
        Week,
        Month,
    }

    #[test]
    #[rustfmt::skip]
    fn an_error_says_where_it_is_and_what_to_write() {
        let cases = [
            // form                          message
            (r#"{"id": "a", "count": "s3cret"}"#, "count: expected a whole number, 0 or more"),
            (r#"{"id": "a", "count": -1}"#,       "count: expected a whole number, 0 or more"),
            (r#"{"id": "a", "count": 1.5}"#,      "count: expected a whole number, 0 or more"),
            (r#"{"id": "a", "count": [1]}"#,      "count: expected"),
            (r#"{"id": "a", "share": "s3cret"}"#, "share: expected a number"),
            (r#"{"id": "a", "on": "s3cret"}"#,    "on: expected true or false"),
            (r#"{"id": "a", "names": "s3cret"}"#, "names: expected a list"),
            (r#"{"id": "a", "names": [["b"]]}"#,  "names[0]: expected text"),
            (r#"{"id": "a", "period": "daily"}"#, "period: expected one of day, week, month"),
            (r#"{"id": "a", "below": "s3cret"}"#, "below: expected an object"),
            (r#"{"id": "a", "below": {"b": "c"}}"#, "below.b: expected an object"),
            (r#"{"id": "a", "below": {"b": {}}}"#, "below.b: `id` is missing"),
            (r#"{"id": {}}"#,                     "id: expected text"),
            (r#"{"id": null}"#,                   "id: expected text, found null"),
            (r#"{"id": "a", "ids": "s3cret"}"#,   "`ids` is not known here; expected one of id, count, share, on, names, period, below"),
            (r#"{"count": 1}"#,                   "`id` is missing"),
            ("[1]",                               "expected"),
            ("7",                                 "expected an object"),
        ];
        for (text, expected) in cases {
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            for error in [from_yaml::<Form>(text, true), from_json::<Form>(&json)] {
                let error = error.unwrap_err();
                assert!(error.contains(expected), "{text}: {error}");
                assert!(!["s3cret", "Form", "Period", "u64", "f64", "struct", "enum", "sequence"].iter().any(|word| error.contains(word)), "{text}: {error}");
            }
        }
    }

    #[test]
    fn an_error_in_yaml_has_its_line() {
        let error = from_yaml::<Form>("id: a\ncount: many\n", true).unwrap_err();
        assert_eq!(error, "count: expected a whole number, 0 or more at line 2, column 8");
        let error = from_yaml::<Form>("id: a\nid: b\n", true).unwrap_err();
        assert!(error.contains("`id`") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_text_may_have_many_values_and_may_not_be_nested_too_deep() {
        let many = format!("[{}]", "7,".repeat(300_000));
        assert_eq!(from_yaml::<Vec<u64>>(&many, true).map(|read| read.len()), Ok(300_000));
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        let error = from_yaml::<serde_json::Value>(&deep, true).unwrap_err();
        assert!(error.contains("nested too deep"), "{error}");
        let aliases = format!("[&a [x], {}]", "*a,".repeat(1_000));
        assert!(from_yaml::<Vec<Vec<String>>>(&aliases, true).is_ok());
    }

    #[test]
    fn booleans_of_yaml_1_1_are_taken_only_where_they_are_meant_to_be() {
        assert!(from_yaml::<Form>("id: a\non: yes\n", false).is_ok());
        let error = from_yaml::<Form>("id: a\non: yes\n", true).unwrap_err();
        assert!(error.starts_with("on: expected true or false"), "{error}");
    }

    #[test]
    #[rustfmt::skip]
    fn the_sentences_of_serde_are_translated_in_every_format() {
        let cases = [
            ("invalid type: string \"a, expected b\", expected u64 at line 1 column 9", "expected a whole number, 0 or more, found text at line 1 column 9"),
            ("invalid type: sequence, expected struct RawPlan", "expected an object, found a list"),
            ("invalid type: map, expected a sequence", "expected a list, found an object"),
            ("invalid type: floating point `1.5`, expected u32", "expected a whole number from 0 to 4294967295, found a number with a fraction"),
            ("invalid value: integer `-1`, expected u64", "expected a whole number, 0 or more"),
            ("invalid type: null, expected a rate such as 10/s", "expected a rate such as 10/s, found null"),
            ("unknown variant `x`, expected `a` or `b`", "expected one of a, b"),
            ("unknown variant `x`, expected one of `a`, `b`, `c`", "expected one of a, b, c"),
            ("unknown field `x`, expected `a`", "`x` is not known here; expected a"),
            ("unknown field `x`, there are no fields", "`x` is not known here; no members are expected"),
            ("invalid type: sequence, expected string or map", "expected text, found a list"),
            ("invalid type: integer `1`, expected unit", "expected no value, found a whole number"),
            ("missing field `id`", "`id` is missing"),
            ("duplicate field `id`", "`id` is there twice"),
            ("expected value at line 1 column 1", "expected value at line 1 column 1"),
            ("a rate is a number, `/` and a unit", "a rate is a number, `/` and a unit"),
        ];
        for (message, expected) in cases {
            assert_eq!(plain_message(message), expected);
        }
    }
}

//! The messages of deserializers, translated: what to write instead of the name of a Rust type.
//!
//! `serde_saphyr` has an error type that can be matched on. All others only have serde's own
//! sentences, whose form is the same in every format.

use std::borrow::Cow;
use std::fmt;

use super::{MAX_YAML_BYTES, MAX_YAML_VALUES};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};

/// The form of a value, as people call it: a whole number, text, a list, an object.
///
/// Made from serde's name of it. A form that a type of ours describes itself stays as it is.
#[derive(Clone, Copy)]
pub struct Expected<'a>(pub &'a str);

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            "u8" => "a whole number from 0 to 255",
            "u16" => "a whole number from 0 to 65535",
            "u32" => "a whole number from 0 to 4294967295",
            "u64" | "usize" | "an unsigned 64 bit or less integer" => "a whole number, 0 or more",
            "i32" | "i64" | "isize" | "an integer" | "an signed 64 bit or less integer" => {
                "a whole number"
            }
            "f32" | "f64" | "floating point" | "a floating point" => "a number",
            "bool" | "boolean" | "a boolean" => "true or false",
            "str" | "a string" | "a borrowed string" | "variant identifier" | "string or map" => {
                "text"
            }
            "unit" | "unit variant" => "no value",
            "a sequence" | "sequence start" => "a list",
            "a map" | "mapping start" => "an object",
            // YAML has a list or an object in place of a single value of any form.
            "scalar" | "string scalar" => "text or a number, not a list or an object",
            "value" | "single YAML node" => "a value",
            form if form.starts_with("struct ") => "an object",
            form if form.starts_with("enum ") => "text",
            form if form.starts_with("tuple ") || form.starts_with("an array") => "a list",
            form => form,
        })
    }
}

/// The form of a value that was found. The value itself is left out.
fn found(form: &str) -> &str {
    let is = |kind: &str| form.strip_prefix(kind).is_some_and(|rest| rest.starts_with([' ', '`']));
    match form {
        "sequence" => "a list",
        "map" => "an object",
        "null" | "unit value" | "Option value" => "null",
        _ if is("string") || is("character") => "text",
        _ if is("integer") => "a whole number",
        _ if is("floating point") => "a number with a fraction",
        _ if is("boolean") => "true or false",
        _ => "something else",
    }
}

/// The expected form, and the form that was found.
fn mismatch(expected: &str, unexpected: &str) -> String {
    format!("expected {}, found {}", Expected(expected), found(unexpected))
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).into(),
        [..] => format!("one of {}", names.join(", ")),
    }
}

/// Translates the errors of YAML.
pub(super) struct PlainMessages;

impl MessageFormatter for PlainMessages {
    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        match error {
            Error::InvalidScalar { ty: expected, .. } | Error::Unexpected { expected, .. } => {
                format!("expected {}", Expected(expected)).into()
            }
            Error::InvalidBooleanStrict { .. } => "expected true or false".into(),
            Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
            | Error::ExpectedStringKeyForExternallyTaggedEnum { .. }
            | Error::UnexpectedValueForUnitEnumVariant { .. } => "expected text".into(),
            Error::NullIntoString { .. } => "expected text, found null".into(),
            Error::SerdeInvalidType { unexpected, expected, .. } => {
                mismatch(expected, unexpected).into()
            }
            Error::SerdeInvalidValue { expected, .. } => {
                format!("expected {}", Expected(expected)).into()
            }
            Error::SerdeUnknownVariant { expected, .. } => {
                format!("expected {}", one_of(expected)).into()
            }
            Error::SerdeUnknownField { field, expected, .. } => {
                unknown_member(field, &one_of(expected)).into()
            }
            Error::SerdeMissingField { field, .. } => format!("`{field}` is missing").into(),
            Error::Budget { breach, .. } => budget_message(breach),
            Error::Message { msg, .. } => plain_message(msg).into(),
            other => UserMessageFormatter.format_message(other),
        }
    }
}

/// The bound that a text exceeds, in place of the library's words.
fn budget_message(breach: &BudgetBreach) -> Cow<'static, str> {
    match breach {
        BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
            format!("it has more than {MAX_YAML_VALUES} values, which is too many for one file")
                .into()
        }
        BudgetBreach::ScalarBytes { .. } => format!(
            "its texts have more than {MAX_YAML_BYTES} bytes, which is too many for one file"
        )
        .into(),
        BudgetBreach::Depth { .. } => "lists and objects are nested too deep".into(),
        _ => "it has too many anchors, aliases or documents for one file".into(),
    }
}

fn unknown_member(name: &str, expected: &str) -> String {
    if expected.is_empty() {
        return format!("`{name}` is not known here; no members are expected");
    }
    format!("`{name}` is not known here; expected {expected}")
}

/// Translates an error of serde in any format. A place at its end, as JSON has, is kept.
#[must_use]
pub fn plain_message(error: impl fmt::Display) -> String {
    let message = error.to_string();
    let (message, place) = match message.rfind(" at line ") {
        Some(at) => message.split_at(at),
        None => (&*message, ""),
    };
    let translated = translate(message).unwrap_or_else(|| message.to_owned());
    format!("{translated}{place}")
}

/// serde's sentences, which all end in what was expected; `None` for any other text.
fn translate(message: &str) -> Option<String> {
    let (kind, rest) = message.split_once(' ')?;
    let (kind, rest) = match kind {
        "invalid" | "unknown" | "missing" | "duplicate" => {
            let (noun, rest) = rest.split_once([' ', ':'])?;
            ((kind, noun), rest.trim_start())
        }
        _ => return None,
    };
    let expected = || rest.rsplit_once(", expected ").or(rest.rsplit_once(", there are no "));
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    Some(match kind {
        ("invalid", "type") => {
            let (unexpected, expected) = expected()?;
            mismatch(expected, unexpected)
        }
        // The form is right, and the value is out of range: what was found says nothing more.
        ("invalid", "value") => format!("expected {}", Expected(expected()?.1)),
        ("unknown", "variant") => format!("expected {}", one_of(&quoted_names(expected()?.1))),
        ("unknown", "field") => {
            unknown_member(&quoted(rest)?, &one_of(&quoted_names(expected()?.1)))
        }
        ("missing", "field") => format!("`{}` is missing", quoted(rest)?),
        ("duplicate", "field") => format!("`{}` is there twice", quoted(rest)?),
        _ => return None,
    })
}

/// The names in backquotes of a text.
fn quoted_names(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_a_yaml_text_exceeds_is_named_in_words() {
        let values = budget_message(&BudgetBreach::Nodes { nodes: 10_000_001 });
        assert!(values.contains("more than 10000000 values"), "{values}");
        let bytes = budget_message(&BudgetBreach::ScalarBytes { total_scalar_bytes: 1 << 29 });
        assert!(bytes.contains("more than 268435456 bytes"), "{bytes}");
        let anchors = budget_message(&BudgetBreach::Anchors { anchors: 50_001 });
        assert!(anchors.contains("too many anchors"), "{anchors}");
    }
}

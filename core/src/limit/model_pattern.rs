//! The names of models that a limit counts, or that a price is for.

use std::fmt;
use std::str::FromStr;

/// A model's name, or with `*` at its end the beginning of names: `gpt-5*`. Names are compared as
/// they are, capitals included.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelPattern {
    /// Without the `*`.
    name: Box<str>,
    is_prefix: bool,
}

impl ModelPattern {
    /// The longest model's name in bytes.
    pub const MAX_BYTES: usize = 256;

    /// True if the model is one of those meant.
    #[must_use]
    pub fn matches(&self, model: &str) -> bool {
        match model.strip_prefix(&*self.name) {
            Some(rest) => self.is_prefix || rest.is_empty(),
            None => false,
        }
    }

    /// The precedence among the patterns that match a model: the longer name, and of two the one
    /// without `*`.
    #[must_use]
    pub fn specificity(&self) -> impl Ord + use<> {
        (self.name.len(), !self.is_prefix)
    }
}

/// A text that cannot be a model's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a model's name has 1 to 256 bytes, no spaces or control characters, and a `*` only at its end"
)]
pub struct InvalidModelPattern;

impl FromStr for ModelPattern {
    type Err = InvalidModelPattern;

    fn from_str(text: &str) -> Result<Self, InvalidModelPattern> {
        let (name, is_prefix) = match text.strip_suffix('*') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let is_bad = |c: char| c == '*' || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > Self::MAX_BYTES || name.contains(is_bad) {
            return Err(InvalidModelPattern);
        }
        Ok(Self { name: name.into(), is_prefix })
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, if self.is_prefix { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn a_star_at_the_end_stands_for_any_rest() {
        let cases = [
            ("gpt-5",   "gpt-5",      true),
            ("gpt-5",   "gpt-5-mini", false),
            ("gpt-5*",  "gpt-5",      true),
            ("gpt-5*",  "gpt-5-mini", true),
            ("gpt-5*",  "GPT-5",      false),
            ("gpt-5*",  "gpt-4",      false),
            ("*",       "anything",   true),
            ("anthropic.claude-sonnet-4-20250514-v1:0", "anthropic.claude-sonnet-4-20250514-v1:0", true),
            ("@cf/meta/llama*", "@cf/meta/llama-3.1-8b-instruct", true),
        ];
        for (pattern, model, expected) in cases {
            let parsed: ModelPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(model), expected, "{pattern} and {model}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn a_name_is_text_without_spaces() {
        let long = "m".repeat(257);
        for text in ["", "a b", "a*b", "**", "a\n", &long] {
            assert_eq!(text.parse::<ModelPattern>(), Err(InvalidModelPattern), "{text}");
        }
    }
}

//! Errors and warnings of a catalog, each with its path in the file.

use std::fmt;
use std::sync::Arc;

/// The errors of a catalog that is not valid. `Display` has a line for each.
#[derive(Debug, thiserror::Error)]
pub struct ValidationError {
    pub(super) origin: String,
    pub(super) errors: Vec<String>,
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.errors.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{}: {fault}", self.origin)?;
        }
        Ok(())
    }
}

impl ValidationError {
    /// The errors without the origin, each with its path.
    #[must_use]
    pub fn errors(&self) -> &[String] {
        &self.errors
    }
}

/// The errors and warnings found so far.
#[derive(Default)]
pub(super) struct Report {
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Report {
    pub(super) fn error(&mut self, at: &str, what: impl fmt::Display) {
        self.errors.push(format!("{at}: {what}"));
    }

    pub(super) fn warning(&mut self, at: &str, what: impl fmt::Display) {
        self.warnings.push(format!("{at}: {what}"));
    }

    /// Checks that a name can be used in responses and metrics, and returns it.
    pub(super) fn check_name(&mut self, at: &str, name: &str) -> Arc<str> {
        if !is_valid_name(name) {
            self.error(at, "a name has 1 to 64 of the characters A-Z a-z 0-9 . _ -");
        }
        name.into()
    }
}

/// Returns true if the text can be an id or a name: `[A-Za-z0-9._-]{1,64}`.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(sound)
}

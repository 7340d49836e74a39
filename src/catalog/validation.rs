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

/// The most errors, and the most warnings, that are written out. A file with a fault in each of its
/// keys would have a megabyte of them otherwise, in a response or in the log.
const MAX_MESSAGES: usize = 100;

/// The errors and warnings found so far.
#[derive(Default)]
pub(super) struct Report {
    errors: Messages,
    warnings: Messages,
}

/// Messages, and the number of further ones.
#[derive(Default)]
struct Messages {
    first: Vec<String>,
    further: usize,
}

impl Messages {
    fn add_line(&mut self, line: fmt::Arguments<'_>) {
        if self.first.len() < MAX_MESSAGES {
            self.first.push(line.to_string());
        } else {
            self.further += 1;
        }
    }

    fn into_lines(self, kind: &str) -> Vec<String> {
        let mut lines = self.first;
        lines.extend((self.further > 0).then(|| format!("and {} further {kind}", self.further)));
        lines
    }
}

impl Report {
    pub(super) fn error(&mut self, at: &str, what: impl fmt::Display) {
        self.errors.add_line(format_args!("{at}: {what}"));
    }

    /// Adds an error that has its path.
    pub(super) fn error_with_path(&mut self, error: &str) {
        self.errors.add_line(format_args!("{error}"));
    }

    /// Adds errors that have their paths below `at`.
    pub(super) fn errors_below(&mut self, at: &str, errors: impl Iterator<Item = String>) {
        errors.for_each(|error| self.errors.add_line(format_args!("{at}.{error}")));
    }

    pub(super) fn warning(&mut self, at: &str, what: impl fmt::Display) {
        self.warnings.add_line(format_args!("{at}: {what}"));
    }

    /// True if there is an error.
    pub(super) fn has_errors(&self) -> bool {
        !self.errors.first.is_empty()
    }

    /// The errors and the warnings. Of many, the last line of each says how many more there are.
    pub(super) fn into_messages(self) -> (Vec<String>, Vec<String>) {
        (self.errors.into_lines("errors"), self.warnings.into_lines("warnings"))
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

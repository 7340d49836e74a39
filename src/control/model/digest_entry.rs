//! The registry's entry for the digest of a key's value: the id of the key that the value is of.
//!
//! The entry of a value that a rotation has replaced also holds the end of its overlap. Every node
//! therefore knows the end beforehand, and needs no message when it comes.

use std::fmt;

/// The contents of a digest's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct DigestEntry<'a> {
    /// The id of the key.
    pub(in crate::control) id: &'a str,
    /// The end of the overlap, in seconds since 1970; `None` for a key's current value.
    pub(in crate::control) until: Option<u64>,
}

impl<'a> DigestEntry<'a> {
    /// Reads an entry. An end that cannot be read is in the past: the value is refused.
    #[must_use]
    pub(in crate::control) fn parse(entry: &'a str) -> Self {
        match entry.split_once(' ') {
            None => Self { id: entry, until: None },
            Some((id, until)) => Self { id, until: Some(until.parse().unwrap_or(0)) },
        }
    }
}

impl fmt::Display for DigestEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until {
            None => f.write_str(self.id),
            Some(until) => write!(f, "{} {until}", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_parsed_as_it_was_written() {
        for until in [None, Some(1_700_000_000)] {
            let entry = DigestEntry { id: "k", until };
            assert_eq!(DigestEntry::parse(&entry.to_string()), entry);
        }
        let unreadable = DigestEntry::parse("k soon");
        assert_eq!(unreadable, DigestEntry { id: "k", until: Some(0) });
    }
}

//! Paths of the registry's entries: the only place that spells them.
//!
//! The document of APIs and plans is one entry. A key is an entry, the digest of its value another
//! that leads to it, and each plan that the key is on a third. Ids contain no slash. The contents
//! of the entries are the resources' to read.

use std::fmt;

/// The path of an entry, by the resource that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum EntryPath<'a> {
    /// All APIs and plans.
    Document,
    /// An API key, by its id.
    Key(&'a str),
    /// The owner of a key's value, by the value's SHA-256 in hexadecimal digits.
    Digest(&'a str),
    /// The link between a plan and a key on it.
    PlanKey {
        /// The plan's id.
        plan: &'a str,
        /// The key's id.
        key: &'a str,
    },
}

const DOCUMENT: &str = "document";
const KEY: &str = "key/";
const DIGEST: &str = "digest/";
const PLAN_KEY: &str = "plan-key/";

impl<'a> EntryPath<'a> {
    /// The prefix of the paths of all keys.
    pub(in crate::control) const KEYS: &'static str = KEY;

    /// The prefix of the paths of all keys on a plan.
    #[must_use]
    pub(in crate::control) fn keys_on_plan(plan: &str) -> String {
        format!("{PLAN_KEY}{plan}/")
    }

    /// Reads a path; `None` if this version knows no such entry.
    #[must_use]
    pub(in crate::control) fn parse(path: &'a str) -> Option<Self> {
        if path == DOCUMENT {
            return Some(Self::Document);
        }
        if let Some(id) = path.strip_prefix(KEY) {
            return Some(Self::Key(id));
        }
        if let Some(hex) = path.strip_prefix(DIGEST) {
            return Some(Self::Digest(hex));
        }
        let (plan, key) = path.strip_prefix(PLAN_KEY)?.split_once('/')?;
        Some(Self::PlanKey { plan, key })
    }
}

impl fmt::Display for EntryPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document => f.write_str(DOCUMENT),
            Self::Key(id) => write!(f, "{KEY}{id}"),
            Self::Digest(hex) => write!(f, "{DIGEST}{hex}"),
            Self::PlanKey { plan, key } => write!(f, "{PLAN_KEY}{plan}/{key}"),
        }
    }
}

impl From<EntryPath<'_>> for String {
    fn from(path: EntryPath<'_>) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_parsed_into_the_entry_that_it_was_made_of() {
        let link = EntryPath::PlanKey { plan: "basic", key: "k" };
        for path in [EntryPath::Document, EntryPath::Key("k"), EntryPath::Digest("00ff"), link] {
            assert_eq!(EntryPath::parse(&path.to_string()), Some(path));
        }
        for unknown in ["", "documents", "plan-key/basic", "other/k"] {
            assert_eq!(EntryPath::parse(unknown), None, "{unknown}");
        }
        assert!(EntryPath::Key("k").to_string().starts_with(EntryPath::KEYS));
        assert!(link.to_string().starts_with(&EntryPath::keys_on_plan("basic")));
    }
}

//! The imported limits as envoyproxy/ratelimit's YAML: a tree of descriptor entries, and the
//! descriptors that Envoy has to send for it.
//!
//! In envoyproxy/ratelimit a descriptor matches one rule, which has all of its entries in their
//! order, and an entry with a value takes precedence over the same key without one. Limitador
//! counts one request in several limits. If two of them would compete for a descriptor, the
//! second one gets a descriptor of its own, with a marker as its first entry.

use std::fmt::{self, Write as _};

/// An entry of a rule. Without a value it matches every value, each with a counter of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImportedEntry {
    pub(super) key: String,
    pub(super) value: Option<String>,
}

/// One limit, and the entries of its descriptor.
#[derive(Debug)]
pub(super) struct ImportedRule {
    pub(super) name: Option<String>,
    pub(super) entries: Vec<ImportedEntry>,
    pub(super) seconds: u32,
    pub(super) requests: u32,
    /// Position of the limit in the file, from 1; used in its marker.
    pub(super) number: usize,
}

/// The key of the marker entry, which no imported limit may use.
pub(super) const MARKER_KEY: &str = "tollgate_limit";

/// Time units of windows, in seconds, the longest first.
const UNITS: [(&str, u32); 5] =
    [("week", 604_800), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];

/// The rules of a domain. No two of them compete for a descriptor.
#[derive(Debug, Default)]
pub(super) struct ImportedDomain {
    pub(super) name: String,
    rules: Vec<ImportedRule>,
}

impl ImportedDomain {
    pub(super) fn new(name: String) -> Self {
        Self { name, rules: Vec::new() }
    }

    /// Number of rules.
    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Adds a rule, with a marker as its first entry if it would compete with another one.
    pub(super) fn add(&mut self, mut rule: ImportedRule) {
        let marked = |value: String| {
            let marker = ImportedEntry { key: MARKER_KEY.into(), value: Some(value) };
            [std::slice::from_ref(&marker), &rule.entries].concat()
        };
        // A number as the marker is unique, so a name must not look like one.
        let name = rule.name.clone().filter(|name| is_plain(name) && !is_number(name));
        let is_free = |entries: &Vec<ImportedEntry>| {
            !entries.is_empty() && !self.rules.iter().any(|other| compete(&other.entries, entries))
        };
        let candidates = [Some(rule.entries.clone()), name.map(marked)];
        let found = candidates.into_iter().flatten().find(is_free);
        rule.entries = found.unwrap_or_else(|| marked(rule.number.to_string()));
        self.rules.push(rule);
    }

    /// The descriptors that Envoy has to send with each request, each as one item of `rate_limits`:
    /// the keys of the entries, and the value of a marker.
    pub(super) fn descriptors(&self) -> Vec<String> {
        let mut descriptors: Vec<String> = Vec::new();
        for rule in &self.rules {
            let shown = rule.entries.iter().map(|ImportedEntry { key, value }| match value {
                Some(value) if key == MARKER_KEY => format!("{}={}", quoted(key), quoted(value)),
                _ => quoted(key),
            });
            let shown = shown.collect::<Vec<_>>().join(", ");
            if !descriptors.contains(&shown) {
                descriptors.push(shown);
            }
        }
        descriptors
    }
}

/// Returns true if two rules would compete for a descriptor: they have the same entries, or the
/// first difference is that one has a value for a key and the other takes every value.
fn compete(one: &[ImportedEntry], other: &[ImportedEntry]) -> bool {
    match one.iter().zip(other).find(|(a, b)| a != b) {
        None => one.len() == other.len(),
        Some((a, b)) => a.key == b.key && a.value.is_some() != b.value.is_some(),
    }
}

/// Returns true if a text needs no quotes in YAML, JSON or a message.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A text for messages: in quotes, and on one line, unless it is plain.
pub(super) fn quoted(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { format!("{text:?}") }
}

/// A text as a YAML scalar in double quotes, with all white space and control characters escaped.
fn yaml_scalar(text: &str) -> String {
    let mut scalar = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => scalar.extend(['\\', character]),
            ' ' => scalar.push(' '),
            _ if character.is_control() || character.is_whitespace() || character == '\u{feff}' => {
                let _infallible = write!(scalar, "\\u{:04x}", u32::from(character));
            }
            _ => scalar.push(character),
        }
    }
    scalar.push('"');
    scalar
}

// === impl Display: the YAML ===

impl fmt::Display for ImportedDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "domain: {}", yaml_scalar(&self.name))?;
        if self.rules.is_empty() {
            return writeln!(f, "descriptors: []");
        }
        writeln!(f, "descriptors:")?;
        let rules: Vec<_> = self.rules.iter().map(|rule| (&*rule.entries, rule)).collect();
        write_level(f, &rules, 1)
    }
}

/// Writes rules with their remaining entries. Rules with the same first entry share a node.
fn write_level(
    f: &mut fmt::Formatter<'_>,
    rules: &[(&[ImportedEntry], &ImportedRule)],
    depth: usize,
) -> fmt::Result {
    let indent = "  ".repeat(2 * depth - 1);
    let mut written: Vec<&ImportedEntry> = Vec::new();
    for (entries, _) in rules {
        let Some(entry) = entries.first().filter(|entry| !written.contains(entry)) else {
            continue;
        };
        written.push(entry);
        writeln!(f, "{indent}- key: {}", yaml_scalar(&entry.key))?;
        if let Some(value) = &entry.value {
            writeln!(f, "{indent}  value: {}", yaml_scalar(value))?;
        }
        let below: Vec<_> = rules
            .iter()
            .filter_map(|(entries, rule)| {
                let (first, rest) = entries.split_first()?;
                (first == entry).then_some((rest, *rule))
            })
            .collect();
        if let Some((_, rule)) = below.iter().find(|(rest, _)| rest.is_empty()) {
            write_limit(f, rule, &indent)?;
        }
        if below.iter().any(|(rest, _)| !rest.is_empty()) {
            writeln!(f, "{indent}  descriptors:")?;
            write_level(f, &below, depth + 1)?;
        }
    }
    Ok(())
}

fn write_limit(f: &mut fmt::Formatter<'_>, rule: &ImportedRule, indent: &str) -> fmt::Result {
    writeln!(f, "{indent}  rate_limit:")?;
    if let Some(name) = &rule.name {
        writeln!(f, "{indent}    name: {}", yaml_scalar(name))?;
    }
    let whole = UNITS.iter().find(|(_, seconds)| rule.seconds.is_multiple_of(*seconds));
    let (unit, seconds) = whole.unwrap_or(&UNITS[4]);
    writeln!(f, "{indent}    unit: {unit}")?;
    if rule.seconds != *seconds {
        writeln!(f, "{indent}    unit_multiplier: {}", rule.seconds / seconds)?;
    }
    writeln!(f, "{indent}    requests_per_unit: {}", rule.requests)?;
    // Limitador judges every number of hits before it counts them.
    writeln!(f, "{indent}    after_the_fact: false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_unique_and_no_name_is_taken_for_a_number() {
        let mut domain = ImportedDomain::new("d".into());
        for (number, name) in (1..).zip(["2", "2", "b", "b", "a*"]) {
            let name = Some(name.to_owned());
            domain.add(ImportedRule {
                name,
                entries: Vec::new(),
                seconds: 60,
                requests: 1,
                number,
            });
        }
        let expected = ["1", "2", "b", "4", "5"].map(|value| format!("{MARKER_KEY}={value}"));
        assert_eq!(domain.descriptors(), expected);
    }

    #[test]
    fn every_text_is_read_back_from_its_yaml_scalar() {
        for text in
            ["", "null", "a: b", "it's \"\\", "a\n- b", "\u{7f}\u{85}\u{2028}\u{feff}\t", "é😀"]
        {
            let read: String = serde_saphyr::from_str(&yaml_scalar(text)).unwrap();
            assert_eq!(read, text);
        }
    }
}

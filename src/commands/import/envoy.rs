//! Limits as envoyproxy/ratelimit's YAML: a tree of descriptor entries, and which descriptors Envoy
//! has to send for it.
//!
//! There a descriptor meets the one rule that names all of its entries in their order, and a value
//! that is given hides the same key without one. So two limits that Limitador counts for one
//! request cannot always stand side by side: the second is then put behind an entry of its own.

use std::fmt::{self, Write as _};

/// An entry that a rule waits for; without a value any will do, and each counts apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImportedEntry {
    pub(super) key: String,
    pub(super) value: Option<String>,
}

/// One limit, and the entries that lead to it.
#[derive(Debug)]
pub(super) struct ImportedRule {
    pub(super) name: Option<String>,
    pub(super) entries: Vec<ImportedEntry>,
    pub(super) seconds: u32,
    pub(super) requests: u32,
    /// Which limit of the file it was, from 1; for the entry of its own.
    pub(super) number: usize,
}

/// The key of the entry that tells apart limits that would hide each other; no limit's own.
pub(super) const MARKER_KEY: &str = "tollgate_limit";

/// Units of which a window may be a multiple, the longest first.
const UNITS: [(&str, u32); 5] =
    [("week", 604_800), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];

/// A domain's rules. None hides another.
#[derive(Debug, Default)]
pub(super) struct ImportedDomain {
    pub(super) name: String,
    rules: Vec<ImportedRule>,
}

impl ImportedDomain {
    pub(super) fn new(name: String) -> Self {
        Self { name, rules: Vec::new() }
    }

    /// How many rules it has.
    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Adds a rule, behind an entry of its own where it would hide another or be hidden.
    pub(super) fn add(&mut self, mut rule: ImportedRule) {
        let marked = |value: String| {
            let marker = ImportedEntry { key: MARKER_KEY.into(), value: Some(value) };
            [std::slice::from_ref(&marker), &rule.entries].concat()
        };
        // A number is one rule's alone, so that no name may look like one.
        let name = rule.name.clone().filter(|name| is_plain(name) && !is_number(name));
        let is_free = |entries: &Vec<ImportedEntry>| {
            !entries.is_empty()
                && !self.rules.iter().any(|other| hide_each_other(&other.entries, entries))
        };
        let candidates = [Some(rule.entries.clone()), name.map(marked)];
        let found = candidates.into_iter().flatten().find(is_free);
        rule.entries = found.unwrap_or_else(|| marked(rule.number.to_string()));
        self.rules.push(rule);
    }

    /// What Envoy has to send with each request, as one item of `rate_limits` each: the keys of a
    /// descriptor, and the value of the first where the rules want one of their own.
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

/// Whether one of two rules would keep requests from the other: both stand at one place, or they
/// part at one key, of which one names a value and the other takes any.
fn hide_each_other(one: &[ImportedEntry], other: &[ImportedEntry]) -> bool {
    match one.iter().zip(other).find(|(a, b)| a != b) {
        None => one.len() == other.len(),
        Some((a, b)) => a.key == b.key && a.value.is_some() != b.value.is_some(),
    }
}

/// Whether a text needs no quotes and no thought anywhere.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// For people: as it is where it is plain, else in quotes, on one line.
pub(super) fn quoted(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { format!("{text:?}") }
}

/// For YAML: JSON's strings are YAML's, but for characters that YAML wants escaped.
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

/// Writes rules by what is left of their entries: those that begin alike stand under one.
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
    writeln!(f, "{indent}    requests_per_unit: {}", rule.requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_taken_for_a_number_and_no_marker_is_given_twice() {
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
    fn every_text_is_one_scalar_of_yaml() {
        for text in
            ["", "null", "a: b", "it's \"\\", "a\n- b", "\u{7f}\u{85}\u{2028}\u{feff}\t", "é😀"]
        {
            let read: String = serde_saphyr::from_str(&yaml_scalar(text)).unwrap();
            assert_eq!(read, text);
        }
    }
}

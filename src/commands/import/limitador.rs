//! Limitador's limits file, read as Limitador reads it and translated as far as that is exact.
//!
//! A limit that cannot be carried over whole is left out and named: without one of its conditions
//! it would count requests that it was not meant for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::cel;
use super::envoy::{ImportedDomain, ImportedEntry, ImportedRule, MARKER_KEY, quoted};
use crate::syntax;

/// The longest window there, in seconds: 366 days.
const MAX_WINDOW_SECS: u32 = 366 * 86_400;

/// A limit as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitadorLimit {
    id: Option<String>,
    name: Option<String>,
    namespace: String,
    max_value: u64,
    seconds: u64,
    // `conditions:` with nothing behind it is an empty list there.
    conditions: Option<Vec<String>>,
    variables: Option<Vec<String>>,
}

/// What became of one namespace.
#[derive(Debug)]
pub(super) struct TranslatedNamespace {
    pub(super) domain: ImportedDomain,
    pub(super) skipped: Vec<SkippedLimit>,
}

/// A limit that is not carried over.
#[derive(Debug)]
pub(super) struct SkippedLimit {
    line: u64,
    name: Option<String>,
    why: String,
}

impl fmt::Display for SkippedLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.name {
            Some(name) => write!(f, "the limit {} is not carried over: ", quoted(name))?,
            None => write!(f, "this limit is not carried over: ")?,
        }
        f.write_str(&self.why)
    }
}

/// Reads a limits file: its namespaces in their order.
///
/// # Errors
/// Where it is no list of limits.
pub(super) fn parse_limits(text: &str) -> Result<Vec<TranslatedNamespace>, String> {
    let limits: Vec<Spanned<LimitadorLimit>> = syntax::from_yaml(text, true)?;
    let mut namespaces: Vec<TranslatedNamespace> = Vec::new();
    let mut first_lines = BTreeMap::new();
    for (number, Spanned { value: limit, referenced, .. }) in (1..).zip(limits) {
        let place = namespaces.iter().position(|other| other.domain.name == limit.namespace);
        let place = place.unwrap_or_else(|| {
            let domain = ImportedDomain::new(limit.namespace.clone());
            namespaces.push(TranslatedNamespace { domain, skipped: Vec::new() });
            namespaces.len() - 1
        });
        let TranslatedNamespace { domain, skipped } = &mut namespaces[place];
        let (line, name) = (referenced.line(), limit.name.clone().or_else(|| limit.id.clone()));
        let first_line = *first_lines.entry(limit_identity(&limit)).or_insert(line);
        let result = if first_line == line {
            translate_limit(limit, number).map(|rule| domain.add(rule))
        } else {
            Err(format!(
                "it has the namespace, seconds, conditions and variables of the limit on line {first_line}, and of such Limitador keeps the first only"
            ))
        };
        if let Err(why) = result {
            skipped.push(SkippedLimit { line, name, why });
        }
    }
    Ok(namespaces)
}

/// By what Limitador tells limits apart: not by their size, and by their conditions as written.
fn limit_identity(limit: &LimitadorLimit) -> (String, u64, BTreeSet<String>, BTreeSet<String>) {
    let set = |list: &Option<Vec<String>>| list.iter().flatten().cloned().collect();
    let (conditions, variables) = (set(&limit.conditions), set(&limit.variables));
    (limit.namespace.clone(), limit.seconds, conditions, variables)
}

fn translate_limit(limit: LimitadorLimit, number: usize) -> Result<ImportedRule, String> {
    if limit.namespace.is_empty() {
        return Err("its namespace is empty, and a domain cannot be".into());
    }
    let seconds = u32::try_from(limit.seconds).ok().filter(|it| (1..=MAX_WINDOW_SECS).contains(it));
    let seconds = seconds.ok_or_else(|| {
        format!("{} seconds are no window of 1 second to 366 days", limit.seconds)
    })?;
    let requests = u32::try_from(limit.max_value).map_err(|_| {
        format!("max_value {} is over 4294967295, the most that Envoy can be told", limit.max_value)
    })?;
    let mut required: BTreeMap<String, String> = BTreeMap::new();
    for source in limit.conditions.unwrap_or_default() {
        let fault = |why| format!("condition {source:?}: {why}");
        for (key, value) in cel::parse_condition(&source).map_err(fault)? {
            if value.is_empty() {
                return Err(fault("an entry's value cannot be asked to be empty".into()));
            }
            if value.contains('*') {
                return Err(fault("`*` in a value stands for any text there".into()));
            }
            if required.get(&key).is_some_and(|other| *other != value) {
                return Err(fault(format!(
                    "{} cannot be two things: the limit never applies",
                    quoted(&key)
                )));
            }
            required.insert(key, value);
        }
    }
    let mut counted = BTreeSet::new();
    for source in limit.variables.unwrap_or_default() {
        let key =
            cel::parse_variable(&source).map_err(|why| format!("variable {source:?}: {why}"))?;
        // A variable that a condition has fixed counts nothing apart.
        if !required.contains_key(&key) {
            counted.insert(key);
        }
    }
    if let Some(key) = required.keys().chain(&counted).find(|key| key.contains('*')) {
        return Err(format!("`*` in the key {key:?} stands for any text there"));
    }
    if required.contains_key(MARKER_KEY) || counted.contains(MARKER_KEY) {
        return Err(format!("the key {MARKER_KEY} tells limits apart here"));
    }
    let required =
        required.into_iter().map(|(key, value)| ImportedEntry { key, value: Some(value) });
    let counted = counted.into_iter().map(|key| ImportedEntry { key, value: None });
    Ok(ImportedRule {
        name: limit.name,
        entries: required.chain(counted).collect(),
        seconds,
        requests,
        number,
    })
}

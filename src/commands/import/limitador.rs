//! Limitador's limits file: read as Limitador reads it, and translated if that is exact.
//!
//! A limit that cannot be translated as a whole is skipped and listed: without one of its
//! conditions it would count requests that it is not meant for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::cel;
use super::envoy::{ImportedDomain, ImportedEntry, ImportedRule, MARKER_KEY, quoted};
use crate::syntax;

/// The longest window of a rule for Envoy, in seconds: 366 days.
const MAX_WINDOW_SECS: u32 = 366 * 86_400;

/// A limit as Limitador's file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitadorLimit {
    id: Option<String>,
    name: Option<String>,
    namespace: String,
    max_value: u64,
    seconds: u64,
    // Limitador reads `conditions:` without a value as an empty list.
    conditions: Option<Vec<String>>,
    variables: Option<Vec<String>>,
}

/// The result for one namespace.
#[derive(Debug)]
pub(super) struct TranslatedNamespace {
    pub(super) domain: ImportedDomain,
    pub(super) skipped: Vec<SkippedLimit>,
}

/// A limit that was not imported, and the reason.
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
            Some(name) => write!(f, "the limit {} is not imported: ", quoted(name))?,
            None => write!(f, "this limit is not imported: ")?,
        }
        f.write_str(&self.why)
    }
}

/// Reads a limits file, and translates its namespaces in their order.
///
/// # Errors
/// If the text is not a list of limits.
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
                "it has the namespace, seconds, conditions and variables of the limit on line {first_line}, and Limitador keeps only the first of them"
            ))
        };
        if let Err(why) = result {
            skipped.push(SkippedLimit { line, name, why });
        }
    }
    Ok(namespaces)
}

/// The identity of a limit in Limitador: its conditions as written, and not its size.
fn limit_identity(limit: &LimitadorLimit) -> (String, u64, BTreeSet<String>, BTreeSet<String>) {
    let set = |list: &Option<Vec<String>>| list.iter().flatten().cloned().collect();
    let (conditions, variables) = (set(&limit.conditions), set(&limit.variables));
    (limit.namespace.clone(), limit.seconds, conditions, variables)
}

fn translate_limit(limit: LimitadorLimit, number: usize) -> Result<ImportedRule, String> {
    if limit.namespace.is_empty() {
        return Err("its namespace is empty, and a domain needs a name".into());
    }
    let seconds = u32::try_from(limit.seconds).ok().filter(|it| (1..=MAX_WINDOW_SECS).contains(it));
    let seconds = seconds.ok_or_else(|| {
        format!("a window of {} seconds is not between 1 second and 366 days", limit.seconds)
    })?;
    let requests = u32::try_from(limit.max_value).map_err(|_| {
        format!(
            "max_value {} is over 4294967295, the largest number of Envoy's protocol",
            limit.max_value
        )
    })?;
    let mut required: BTreeMap<String, String> = BTreeMap::new();
    for source in limit.conditions.unwrap_or_default() {
        let fault = |why| format!("condition {source:?}: {why}");
        for (key, value) in cel::parse_condition(&source).map_err(fault)? {
            if value.is_empty() {
                return Err(fault("a rule cannot require an empty value".into()));
            }
            if value.contains('*') {
                return Err(fault(
                    "`*` in a value matches any text in Envoy's configuration".into(),
                ));
            }
            if required.get(&key).is_some_and(|other| *other != value) {
                return Err(fault(format!(
                    "{} cannot have two values: the limit never applies",
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
        // A variable whose value a condition fixes adds no counters.
        if !required.contains_key(&key) {
            counted.insert(key);
        }
    }
    if let Some(key) = required.keys().chain(&counted).find(|key| key.contains('*')) {
        return Err(format!("`*` in the key {key:?} matches any text in Envoy's configuration"));
    }
    if required.contains_key(MARKER_KEY) || counted.contains(MARKER_KEY) {
        return Err(format!(
            "the key {MARKER_KEY} is reserved: the output uses it to separate limits"
        ));
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

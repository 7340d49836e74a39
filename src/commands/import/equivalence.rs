//! Property test of the import: random limits count random requests in the same counters.
//!
//! Both sides are modelled here in a few lines. Limitador counts every limit whose conditions hold
//! and whose variables are present. envoyproxy/ratelimit descends its tree one entry at a time,
//! without backtracking.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;

use super::envoy::MARKER_KEY;
use super::limitador;

/// The counter of a limit for a request: the limit's name, and the values of its variables.
type Counted = (String, BTreeMap<String, String>);
type Request = BTreeMap<&'static str, &'static str>;

const KEYS: [&str; 4] = ["a", "b", "c.d", MARKER_KEY];
const VALUES: [&str; 3] = ["x", "2", "it's \"z\""];

#[derive(Clone, Debug)]
struct GeneratedLimit {
    conditions: Vec<(&'static str, &'static str)>,
    variables: Vec<&'static str>,
    seconds: u32,
    max_value: u32,
    /// True if the conditions are written as one, joined by `&&`.
    joined: bool,
    /// True if a condition cannot be expressed by a descriptor.
    untranslatable: bool,
}

fn generated_limit() -> impl Strategy<Value = GeneratedLimit> {
    let key = || proptest::sample::select(KEYS.as_slice());
    let conditions = prop::collection::vec((key(), proptest::sample::select(&VALUES[..])), 0..3);
    let seconds = prop_oneof![1..200_u32, Just(3_600), Just(86_400), Just(604_800)];
    let variables = prop::collection::vec(key(), 0..3);
    (conditions, variables, seconds, 0..9_u32, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(conditions, variables, seconds, max_value, joined, untranslatable)| GeneratedLimit {
            conditions,
            variables,
            seconds,
            max_value,
            joined,
            untranslatable,
        },
    )
}

impl GeneratedLimit {
    fn write(&self, number: usize) -> String {
        let condition =
            |(key, value): &(&str, &str)| format!("descriptors[0][{key:?}] == {value:?}");
        let mut conditions: Vec<String> = self.conditions.iter().map(condition).collect();
        if self.joined && !conditions.is_empty() {
            conditions = vec![conditions.join(" && ")];
        }
        if self.untranslatable {
            conditions.push("descriptors[0].a != 'x'".into());
        }
        let variables = self.variables.iter().map(|key| format!("descriptors[0]['{key}']"));
        serde_json::json!({
            "name": format!("n{number}"),
            "namespace": "d",
            "seconds": self.seconds,
            "max_value": self.max_value,
            "conditions": conditions,
            "variables": variables.collect::<Vec<_>>(),
        })
        .to_string()
    }

    /// The counter in Limitador; `None` if the limit does not apply.
    fn counts(&self, request: &Request, number: usize) -> Option<Counted> {
        let holds = |(key, value): &(&str, &str)| request.get(key) == Some(value);
        let variables = self.variables.iter().map(|key| Some((*key, *request.get(key)?)));
        let variables = variables.collect::<Option<BTreeMap<_, _>>>()?;
        // A variable whose value a condition fixes adds no counters.
        let fixed = |key: &str| self.conditions.iter().any(|(other, _)| *other == key);
        let values = variables.into_iter().filter(|(key, _)| !fixed(key));
        let values = values.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        self.conditions.iter().all(holds).then(|| (format!("n{number}"), values))
    }
}

/// The counter in envoyproxy/ratelimit, and the limit, that a descriptor matches.
fn matched_limit(
    level: &Value,
    entries: &[(String, String)],
    counter: Counted,
) -> Option<(Counted, Value)> {
    let (mut name, mut values) = counter;
    let ((key, value), rest) = entries.split_first()?;
    let nodes = level["descriptors"].as_array()?;
    let exact = nodes.iter().find(|node| node["key"] == **key && node["value"] == **value);
    let bare = || nodes.iter().find(|node| node["key"] == **key && node["value"].is_null());
    let node = exact.or_else(bare)?;
    if node["value"].is_null() {
        values.insert(key.clone(), value.clone());
    }
    if !rest.is_empty() {
        return matched_limit(node, rest, (name, values));
    }
    let limit = node.get("rate_limit")?;
    limit["name"].as_str()?.clone_into(&mut name);
    Some(((name, values), limit.clone()))
}

/// The descriptors that Envoy sends for a request, by the instructions of the output.
fn sent_descriptors(descriptors: &[String], request: &Request) -> Vec<Vec<(String, String)>> {
    let entry = |shown: &str| {
        let (key, value) = shown.split_once('=').map_or((shown, None), |(k, v)| (k, Some(v)));
        let value = value.or_else(|| request.get(key).copied());
        value.map(|value| (key.to_owned(), value.to_owned()))
    };
    descriptors.iter().filter_map(|shown| shown.split(", ").map(entry).collect()).collect()
}

fn seconds_of(limit: &Value) -> u64 {
    let unit = match limit["unit"].as_str() {
        Some("second") => 1,
        Some("minute") => 60,
        Some("hour") => 3_600,
        Some("day") => 86_400,
        Some("week") => 604_800,
        other => panic!("{other:?}"),
    };
    unit * limit["unit_multiplier"].as_u64().unwrap_or(1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_requests_are_counted_in_the_same_counters(
        limits in prop::collection::vec(generated_limit(), 1..7),
        requests in prop::collection::vec(
            prop::collection::btree_map(
                proptest::sample::select(KEYS.as_slice()),
                proptest::sample::select(&VALUES[..]),
                0..5,
            ),
            20,
        ),
    ) {
        let lines = (0..).zip(&limits).map(|(number, limit)| format!("- {}\n", limit.write(number)));
        let namespaces = limitador::parse_limits(&lines.collect::<String>()).unwrap();
        let translated = &namespaces[0];
        // Skipped limits are listed by their lines, and each limit is one line.
        let named: BTreeSet<usize> = translated.skipped.iter().map(|limit| {
            let line = limit.to_string().split([' ', ':']).nth(1).unwrap().parse::<usize>().unwrap();
            line - 1
        }).collect();
        prop_assert_eq!(translated.domain.len() + named.len(), limits.len());
        let untranslatable = (0..).zip(&limits).filter(|(_, limit)| limit.untranslatable);
        for (number, _) in untranslatable {
            prop_assert!(named.contains(&number));
        }
        let yaml: Value = serde_saphyr::from_str(&translated.domain.to_string()).unwrap();
        let descriptors = translated.domain.descriptors();
        for request in &requests {
            let mut expected: Vec<Counted> = (0..)
                .zip(&limits)
                .filter(|(number, _)| !named.contains(number))
                .filter_map(|(number, limit)| limit.counts(request, number))
                .collect();
            let mut counted = Vec::new();
            for descriptor in sent_descriptors(&descriptors, request) {
                let Some((which, limit)) = matched_limit(&yaml, &descriptor, Counted::default()) else { continue };
                let original = &limits[which.0[1..].parse::<usize>().unwrap()];
                prop_assert_eq!(seconds_of(&limit), u64::from(original.seconds));
                prop_assert_eq!(&limit["requests_per_unit"], original.max_value);
                counted.push(which);
            }
            expected.sort();
            counted.sort();
            prop_assert_eq!(counted, expected);
        }
    }
}

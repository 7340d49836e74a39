//! All faults of shape in a catalog that cannot be read.
//!
//! A parser ends at its first fault, and an operator would find the others one start at a time. So
//! a text that was refused is read again, each entry by itself. Texts that are valid never come
//! here, and what the entries mean is validated elsewhere.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::raw::{RawApi, RawKey, RawModel, RawPlan, RawPolicy, RawUnit};
use super::validation::Report;
use crate::object::Object;
use crate::syntax;

/// The entries of a catalog, in any shape.
#[derive(Deserialize)]
struct Entries {
    #[serde(default)]
    models: Section,
    #[serde(default)]
    units: Section,
    #[serde(default)]
    apis: Section,
    #[serde(default)]
    plans: Section,
    #[serde(default)]
    keys: Section,
    #[serde(default)]
    policies: Section,
}

/// The entries of a section.
#[derive(Default)]
enum Section {
    #[default]
    Absent,
    Listed(Vec<Spanned<Value>>),
    Named(BTreeMap<String, Spanned<Value>>),
    /// It is neither a list nor an object.
    Other,
}

impl<'de> Deserialize<'de> for Section {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SectionVisitor;
        impl<'de> Visitor<'de> for SectionVisitor {
            type Value = Section;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a section of a catalog")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Section, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Section::Listed)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Section, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(Section::Named)
            }

            fn visit_unit<E: Error>(self) -> Result<Section, E> {
                Ok(Section::Other)
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Section, E> {
                Ok(Section::Other)
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Section, E> {
                Ok(Section::Other)
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Section, E> {
                Ok(Section::Other)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Section, E> {
                Ok(Section::Other)
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Section, E> {
                Ok(Section::Other)
            }
        }
        deserializer.deserialize_any(SectionVisitor)
    }
}

/// The fault `first`, at which reading of `text` ended, and all others. They have the line at which
/// their entry begins. If the text is no object, the first fault is the only one that can be told.
pub(super) fn all_faults(text: &str, first: String) -> Vec<String> {
    let Ok(entries) = syntax::from_yaml::<Entries>(text, true) else { return vec![first] };
    let mut faults = Faults { report: Report::default(), first: &first };
    faults.report.error_with_path(&first);
    faults.add_named::<RawModel>("models", &entries.models);
    faults.add_named::<RawUnit>("units", &entries.units);
    faults.add_listed::<RawApi>("apis", &entries.apis);
    faults.add_listed::<RawPlan>("plans", &entries.plans);
    faults.add_listed::<RawKey>("keys", &entries.keys);
    faults.add_listed::<RawPolicy>("policies", &entries.policies);
    faults.report.into_messages().0
}

struct Faults<'a> {
    report: Report,
    first: &'a str,
}

impl Faults<'_> {
    fn add_named<T: DeserializeOwned>(&mut self, name: &str, section: &Section) {
        match section {
            Section::Absent => {}
            Section::Named(entries) => {
                for (key, entry) in entries {
                    self.add_faults_of::<T>(&format!("{name}.{key}"), entry);
                }
            }
            Section::Listed(_) | Section::Other => {
                self.add(name, &format!("{name}: expected an object"));
            }
        }
    }

    fn add_listed<T: DeserializeOwned>(&mut self, name: &str, section: &Section) {
        match section {
            Section::Absent => {}
            Section::Listed(entries) => {
                for (at, entry) in entries.iter().enumerate() {
                    self.add_faults_of::<T>(&format!("{name}[{at}]"), entry);
                }
            }
            Section::Named(_) | Section::Other => {
                self.add(name, &format!("{name}: expected a list"));
            }
        }
    }

    fn add_faults_of<T: DeserializeOwned>(&mut self, place: &str, entry: &Spanned<Value>) {
        let line = entry.referenced.line();
        for fault in syntax::faults_at::<Object<T>>(place, &entry.value) {
            let path = fault.split(": ").next().unwrap_or_default();
            self.add(path, &format!("{fault} (the entry begins at line {line})"));
        }
    }

    /// Adds a fault unless the first one is at the same path.
    fn add(&mut self, path: &str, fault: &str) {
        let below = self.first.strip_prefix(path);
        if below.is_none_or(|below| !below.starts_with(": ")) {
            self.report.error_with_path(fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Catalog;

    #[test]
    fn the_first_fault_of_each_entry_is_told_and_no_value() {
        let text = "version: 1
plans:
  - { id: good, throttle: { rate: 1/s, burst: 1 } }
  - { id: basic, throttle: { rate: 1/s, burst: [s3cret] } }
  - { id: pro, thottle: { rate: 1/s, burst: 1 } }
policies:
  - name: login
    throttle: { rate: 5/min, burst: s3cret }
keys:
  - just-a-name
";
        let error = Catalog::parse(text, "c.yaml").err().unwrap();
        let [first, second, third, fourth] = error.errors() else { panic!("{error}") };
        assert!(
            first.starts_with("plans[1].throttle.burst: expected ") && first.contains("line 4"),
            "{first}"
        );
        assert!(second.starts_with("plans[2].thottle: `thottle` is not known here"), "{second}");
        assert!(second.ends_with("(the entry begins at line 5)"), "{second}");
        assert!(third.starts_with("keys[0]: expected an object"), "{third}");
        assert!(
            fourth.starts_with("policies[0].throttle.burst: expected a whole number"),
            "{fourth}"
        );
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn all_faults_of_an_entry_and_of_sections_are_told_at_once() {
        let text = "version: 1
plans:
  - id: a
    throttle: { rate: [1], burst: x, bursts: 7 }
    limits: 5
  - quota: { limit: 1.5, period: fortnight }
  - id: [b]
keys: 7
models: []
";
        let error = Catalog::parse(text, "c.yaml").err().unwrap();
        let places = |error: &String| error.split(": ").next().unwrap_or_default().to_owned();
        let told: Vec<String> = error.errors().iter().map(places).collect();
        let expected = [
            "plans[0].throttle.rate",
            "models",
            "plans[0].limits",
            "plans[0].throttle.burst",
            "plans[0].throttle.bursts",
            "plans[1].quota.limit",
            "plans[1].quota.period",
            "plans[1]",
            "plans[2].id",
            "keys",
        ];
        assert_eq!(told, expected, "{error}");
    }

    #[test]
    fn a_text_that_is_no_catalog_has_one_fault() {
        for text in ["- a\n- b\n", "version: 1\nplan: []\n", "version: [\n"] {
            let error = Catalog::parse(text, "c.yaml").err().unwrap();
            assert_eq!(error.errors().len(), 1, "{text}: {error}");
        }
    }
}

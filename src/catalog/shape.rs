//! All faults of shape in a catalog that cannot be read: the first one of each entry.
//!
//! A parser ends at its first fault, and an operator would find the others one start at a time. So
//! a text that was refused is read again, each entry by itself. Texts that are valid never come
//! here, and what the entries mean is validated elsewhere.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
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
    models: BTreeMap<String, Spanned<Value>>,
    #[serde(default)]
    units: BTreeMap<String, Spanned<Value>>,
    #[serde(default)]
    apis: Vec<Spanned<Value>>,
    #[serde(default)]
    plans: Vec<Spanned<Value>>,
    #[serde(default)]
    keys: Vec<Spanned<Value>>,
    #[serde(default)]
    policies: Vec<Spanned<Value>>,
}

/// The fault `first`, at which reading of `text` ended, and those of other entries. An entry's
/// line is that of its beginning. If the text is not a list of entries at all, the first fault is
/// the only one that can be told.
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
    fn add_named<T: DeserializeOwned>(
        &mut self,
        section: &str,
        entries: &BTreeMap<String, Spanned<Value>>,
    ) {
        for (name, entry) in entries {
            self.add::<T>(&format!("{section}.{name}"), entry);
        }
    }

    fn add_listed<T: DeserializeOwned>(&mut self, section: &str, entries: &[Spanned<Value>]) {
        for (at, entry) in entries.iter().enumerate() {
            self.add::<T>(&format!("{section}[{at}]"), entry);
        }
    }

    /// Adds the fault of an entry, unless it is the entry of the first fault.
    fn add<T: DeserializeOwned>(&mut self, place: &str, entry: &Spanned<Value>) {
        let below = self.first.strip_prefix(place);
        if below.is_some_and(|below| below.starts_with([':', '.', '['])) {
            return;
        }
        if let Err(fault) = syntax::from_json_at::<Object<T>>(place, &entry.value) {
            let line = entry.referenced.line();
            self.report.error_with_path(&format!("{fault} (the entry begins at line {line})"));
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
    fn a_text_that_is_no_catalog_has_one_fault() {
        for text in [
            "- a\n- b\n",
            "version: 1\nplans: 7\nkeys: 8\n",
            "version: 1\nplan: []\n",
            "version: [\n",
        ] {
            let error = Catalog::parse(text, "c.yaml").err().unwrap();
            assert_eq!(error.errors().len(), 1, "{text}: {error}");
        }
    }
}

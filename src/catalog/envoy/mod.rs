//! Limits as envoyproxy/ratelimit has them: domains, and trees of descriptors.
//!
//! Its YAML is read as it is. Beside the catalog, not part of it: Envoy names what is limited by
//! descriptors, knows no API keys, and asks over a protocol of its own.

mod time_unit;
mod raw;
mod algorithm;
mod pattern;
mod labels;
mod tree;
mod build;

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::algorithm::Calendar;
use crate::limit::{Limit, Subject, Unit};
use labels::MetricLabels;
use tree::DescriptorTree;

pub use time_unit::TimeUnit;

/// Everything that Envoys may ask by.
pub struct Domains {
    by_name: HashMap<Box<str>, EnvoyDomain>,
    warnings: Vec<String>,
    /// What metrics call limits that requests bring along.
    override_label: Arc<str>,
    /// Their windows.
    windows: HashMap<TimeUnit, Arc<Calendar>>,
}

/// One configuration file: a name, and descriptors.
pub struct EnvoyDomain {
    name: Box<str>,
    label: Arc<str>,
    root: DescriptorTree,
}

/// One entry of a descriptor: a key and a value.
pub type DescriptorEntry<'a> = (&'a str, &'a str);

/// A limit of the configuration.
pub struct DescriptorRule {
    /// What is counted; absent where it is unlimited.
    pub limit: Option<Arc<Limit>>,
    /// The number that is told to Envoy.
    pub requests_per_unit: u32,
    /// What that number is for.
    pub unit: TimeUnit,
    /// By which other rules may replace it; may be empty.
    pub name: Box<str>,
    /// The rules that count for nothing where this one is met.
    pub replaces: Vec<Box<str>>,
    /// What Envoy is told beside the verdict.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    detailed_metric: bool,
    labels: MetricLabels,
}

/// A rule as a descriptor meets it.
pub struct MatchedRule<'d> {
    /// The rule.
    pub rule: &'d DescriptorRule,
    /// Whose counter.
    pub subject: Subject,
    /// What metrics call it.
    pub label: Arc<str>,
}

impl Domains {
    /// The domain of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&EnvoyDomain> {
        self.by_name.get(name)
    }

    /// Takes the labels along that metrics have had by the configuration before.
    pub fn inherit_labels(&self, before: &Self) {
        for (name, domain) in &self.by_name {
            if let Some(before) = before.by_name.get(name) {
                domain.root.inherit_labels(&before.root);
            }
        }
    }

    /// What is valid, but perhaps not meant.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What is in it, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut names: Vec<&str> = self.by_name.keys().map(|name| &**name).collect();
        names.sort_unstable();
        let many = if names.len() == 1 { "" } else { "s" };
        format!("{} domain{many}: {}", names.len(), names.join(", "))
    }

    /// Adds what was found beside the files.
    pub(crate) fn warn(&mut self, at: &str, what: &str) {
        self.warnings.push(format!("{at}: {what}"));
    }

    /// A limit that a request brings along: so many in each of `unit`'s windows, in the place of the
    /// rule that is met, whose counter it shares where the windows are the same.
    #[must_use]
    pub fn override_limit(
        &self,
        requests_per_unit: u32,
        unit: TimeUnit,
        overridden: Option<&DescriptorRule>,
    ) -> Option<Arc<Limit>> {
        let calendar = Arc::clone(self.windows.get(&unit)?);
        let algorithm = algorithm::fixed_window(requests_per_unit.into(), calendar);
        let rule = overridden.and_then(|rule| rule.limit.as_ref());
        let name = rule.map_or("envoy:override", |limit| limit.name());
        let limit = Limit::new(name, Unit::requests(), algorithm, false);
        Some(Arc::new(limit.as_refundable()))
    }

    /// What metrics call limits that requests bring along.
    #[must_use]
    pub fn override_label(&self) -> &Arc<str> {
        &self.override_label
    }
}

impl EnvoyDomain {
    /// What metrics call it.
    #[must_use]
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// The rule that a descriptor meets: entry by entry the exact value, else the first pattern in
    /// the file's order, else the key alone; and it must be as deep as the descriptor.
    #[must_use]
    pub fn match_descriptor<'d>(
        &'d self,
        entries: &[DescriptorEntry<'_>],
    ) -> Option<MatchedRule<'d>> {
        let path = self.root.match_path(entries)?;
        let rule = path.last()?.node.rule.as_ref()?;
        let shared = path.iter().map(|step| step.shared_pattern);
        let subject = Subject::descriptor(&self.name, entries.iter().copied().zip(shared));
        let label = rule.labels.label_for(rule.detailed_metric, entries, &path);
        Some(MatchedRule { rule, subject, label })
    }

    /// Whose counter a limit that a request brings along is.
    #[must_use]
    pub fn subject(&self, entries: &[DescriptorEntry<'_>]) -> Subject {
        let entries = entries.iter().copied();
        Subject::descriptor(&self.name, entries.zip(std::iter::repeat(None)))
    }
}

/// The nodes that a descriptor passes, one for each of its entries.
type DescriptorPath<'d> = SmallVec<[tree::PathStep<'d>; 4]>;

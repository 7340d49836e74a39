//! Rate limits in envoyproxy/ratelimit's form: domains, and trees of descriptors.
//!
//! Its YAML is read unchanged. These limits are not part of the catalog: Envoy's requests have
//! descriptors instead of API keys, and come over a protocol of their own.

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

/// The domains of all configuration files.
pub struct Domains {
    by_name: HashMap<Box<str>, EnvoyDomain>,
    warnings: Vec<String>,
    /// Metric label of limit overrides.
    override_label: Arc<str>,
    /// The windows of limit overrides.
    windows: HashMap<TimeUnit, Arc<Calendar>>,
}

/// A domain: one configuration file with a tree of descriptors.
pub struct EnvoyDomain {
    name: Box<str>,
    label: Arc<str>,
    root: DescriptorTree,
}

/// One entry of a descriptor: a key and a value.
pub type DescriptorEntry<'a> = (&'a str, &'a str);

/// A `rate_limit` of the configuration.
pub struct DescriptorRule {
    /// The limit; `None` if the rule is unlimited.
    pub limit: Option<Arc<Limit>>,
    /// The number of requests per unit, as the response to Envoy has it.
    pub requests_per_unit: u32,
    /// The unit of that number.
    pub unit: TimeUnit,
    /// Name by which other rules replace this one; may be empty.
    pub name: Box<str>,
    /// Names of the rules that are ignored if this one matches.
    pub replaces: Vec<Box<str>>,
    /// True if hits whose number the request gives have been used already: they are charged in any
    /// case.
    pub after_the_fact: bool,
    /// Dynamic metadata of the response to Envoy.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    detailed_metric: bool,
    labels: MetricLabels,
}

/// A rule that matches a descriptor.
pub struct MatchedRule<'d> {
    /// The rule.
    pub rule: &'d DescriptorRule,
    /// The subject of the counter.
    pub subject: Subject,
    /// The metric label.
    pub label: Arc<str>,
}

impl Domains {
    /// The domain of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&EnvoyDomain> {
        self.by_name.get(name)
    }

    /// Takes over the metric labels of the configuration before: metrics keep every label.
    pub fn inherit_labels(&self, before: &Self) {
        for (name, domain) in &self.by_name {
            if let Some(before) = before.by_name.get(name) {
                domain.root.inherit_labels(&before.root);
            }
        }
    }

    /// Warnings: declarations that are valid but look like a mistake.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The names of the domains, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut names: Vec<&str> = self.by_name.keys().map(|name| &**name).collect();
        names.sort_unstable();
        let many = if names.len() == 1 { "" } else { "s" };
        format!("{} domain{many}: {}", names.len(), names.join(", "))
    }

    /// Adds a warning.
    pub(crate) fn warn(&mut self, at: &str, what: &str) {
        self.warnings.push(format!("{at}: {what}"));
    }

    /// The limit of a request's limit override: a number of requests in each window of one `unit`.
    /// It replaces the rule that matches, and shares its counter if the windows are the same.
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

    /// Metric label of limit overrides.
    #[must_use]
    pub fn override_label(&self) -> &Arc<str> {
        &self.override_label
    }
}

impl EnvoyDomain {
    /// The metric label.
    #[must_use]
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// The rule that matches a descriptor. For each entry, precedence is: exact value, first
    /// pattern in the file's order, key only. The rule must be as deep as the descriptor.
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

    /// The subject of a limit override's counter.
    #[must_use]
    pub fn subject(&self, entries: &[DescriptorEntry<'_>]) -> Subject {
        let entries = entries.iter().copied();
        Subject::descriptor(&self.name, entries.zip(std::iter::repeat(None)))
    }
}

/// The nodes that match a descriptor, one for each of its entries.
type DescriptorPath<'d> = SmallVec<[tree::PathStep<'d>; 4]>;

//! Validation of envoyproxy/ratelimit's YAML, and the construction of the domains.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::labels::MetricLabels;
use super::pattern::ValuePattern;
use super::raw::{RawAlgorithm, RawDescriptor, RawDomain, RawRateLimit};
use super::time_unit::TimeUnit;
use super::tree::{DescriptorNode, DescriptorTree};
use super::{DescriptorRule, Domains, EnvoyDomain, algorithm};
use crate::catalog::bounds::{MAX_PATTERNS, check_count};
use crate::catalog::validation::{Report, ValidationError};
use crate::limit::{Limit, Unit};
use crate::syntax;

impl Domains {
    /// Reads the files, given by name and text. Errors begin with `origin` and the name of the
    /// file.
    ///
    /// # Errors
    /// If a file is not YAML, or the files are not valid, alone or together.
    pub fn parse<'f>(
        origin: &str,
        files: impl Iterator<Item = (&'f str, &'f str)>,
    ) -> Result<Self, ValidationError> {
        let mut report = Report::default();
        let windows = TimeUnit::ALL.into_iter();
        let windows = windows.filter_map(|unit| Some((unit, unit.windows(NonZeroU32::MIN)?)));
        let mut domains = Self {
            by_name: HashMap::new(),
            warnings: Vec::new(),
            override_label: "override".into(),
            windows: windows.collect(),
        };
        for (file, text) in files {
            // envoyproxy/ratelimit's reader takes YAML 1.1, in which `yes` and `on` are true.
            match syntax::from_yaml(text, false) {
                Ok(raw) => domains.add(raw, file, &mut report),
                Err(fault) => report.error(file, fault),
            }
        }
        if domains.by_name.is_empty() && !report.has_errors() {
            report.error("no domain", "no file ends in .yaml or .yml");
        }
        let (errors, warnings) = report.into_messages();
        if !errors.is_empty() {
            return Err(ValidationError { origin: origin.into(), errors });
        }
        domains.warnings = warnings;
        Ok(domains)
    }

    fn add(&mut self, raw: RawDomain, file: &str, report: &mut Report) {
        let name = raw.domain;
        if name.is_empty() {
            report.error(&format!("{file}: domain"), "must not be empty");
        }
        let mut builder = DomainBuilder { domain: &name, file, report };
        let root = builder.build_tree(raw.descriptors, "descriptors", "", Above::default());
        let label = format!("envoy:{name}").into();
        let domain = EnvoyDomain { name: name.as_str().into(), label, root };
        if self.by_name.insert(name.as_str().into(), domain).is_some() {
            let fault = format_args!("the domain `{name}` is there twice; put it into one file");
            report.error(&format!("{file}: domain"), fault);
        }
    }
}

/// The configuration that a descriptor takes over from those above it.
#[derive(Clone, Copy, Default)]
struct Above {
    /// True if the metric labels of the rules have clients' values.
    with_values: bool,
    /// True if each value of a request has a counter of its own.
    open_ended: bool,
}

/// Builds the domain of one file.
struct DomainBuilder<'f> {
    domain: &'f str,
    file: &'f str,
    report: &'f mut Report,
}

impl DomainBuilder<'_> {
    fn error(&mut self, at: &str, what: impl std::fmt::Display) {
        self.report.error(&format!("{}: {at}", self.file), what);
    }

    /// The descriptors at `at`, below the path `parent`.
    fn build_tree(
        &mut self,
        raw: Vec<RawDescriptor>,
        at: &str,
        parent: &str,
        above: Above,
    ) -> DescriptorTree {
        let mut tree = DescriptorTree::default();
        let mut patterns = HashSet::new();
        for (index, descriptor) in raw.into_iter().enumerate() {
            let at = format!("{at}[{index}]");
            let (key, value) = (descriptor.key.clone(), descriptor.value.clone());
            if key.is_empty() {
                self.error(&format!("{at}.key"), "must not be empty");
            }
            let joined = descriptor_key(&key, &value);
            let pattern = ValuePattern::new(&joined);
            if descriptor.share_threshold && pattern.is_none() {
                let why = "needs a value with a `*`: the values that match it share one counter";
                self.error(&format!("{at}.share_threshold"), why);
            }
            let counts_values = match pattern {
                Some(_) => !descriptor.share_threshold,
                None => value.is_empty(),
            };
            let above = Above { open_ended: above.open_ended || counts_values, ..above };
            let node = self.build_node(descriptor, &at, parent, above);
            let twice = match pattern {
                Some(pattern) => {
                    tree.patterns.push((pattern, node));
                    !patterns.insert(joined)
                }
                None if value.is_empty() => tree.key_only.insert(key.into(), node).is_some(),
                None => {
                    let values = tree.exact.entry(key.into()).or_default();
                    values.insert(value.into(), node).is_some()
                }
            };
            if twice {
                self.error(&at, "another descriptor here has the same key and value; keep one");
            }
        }
        let at = format!("{}: the patterns of {at}", self.file);
        check_count(&at, tree.patterns.len(), MAX_PATTERNS, self.report);
        tree
    }

    fn build_node(
        &mut self,
        raw: RawDescriptor,
        at: &str,
        parent: &str,
        above: Above,
    ) -> DescriptorNode {
        let path = format!("{parent}{}", descriptor_key(&raw.key, &raw.value));
        let above = Above { with_values: above.with_values || raw.value_to_metric, ..above };
        let below = format!("{at}.descriptors");
        let rule = raw.rate_limit.as_ref();
        let rule = rule.and_then(|limit| self.build_rule(&raw, limit, at, &path, above));
        DescriptorNode {
            rule,
            value: raw.value.into(),
            value_to_metric: raw.value_to_metric,
            share_threshold: raw.share_threshold,
            children: self.build_tree(raw.descriptors, &below, &format!("{path}."), above),
        }
    }

    fn build_rule(
        &mut self,
        descriptor: &RawDescriptor,
        raw: &RawRateLimit,
        at: &str,
        path: &str,
        above: Above,
    ) -> Option<DescriptorRule> {
        let at = format!("{at}.rate_limit");
        if raw.replaces.iter().any(|replaced| replaced.name.is_empty()) {
            self.error(&format!("{at}.replaces"), "each entry needs the `name` of a limit");
        }
        if raw.replaces.iter().any(|replaced| replaced.name == raw.name) {
            self.error(&format!("{at}.replaces"), "a limit cannot replace itself");
        }
        let unit = self.parse_unit(raw, &at)?;
        let limit = if raw.unlimited {
            if raw.uses_extensions() {
                let why = "algorithm, burst, time_zone, unit_multiplier and after_the_fact need a limit, and this rule is unlimited";
                self.error(&at, why);
            }
            None
        } else {
            let at = format!("{}: {at}", self.file);
            let algorithm = algorithm::build_algorithm(raw, unit, &at, self.report)?;
            let name = format!("envoy:{}/{path}", self.domain);
            let limit = Limit::new(&name, Unit::requests(), algorithm, descriptor.shadow_mode);
            let limit = if descriptor.quota_mode { limit.as_alternative() } else { limit };
            let limit = if above.open_ended { limit.as_open_ended() } else { limit };
            Some(Arc::new(limit.as_refundable()))
        };
        Some(DescriptorRule {
            limit,
            requests_per_unit: raw.requests_per_unit.unwrap_or(0),
            unit,
            name: raw.name.as_str().into(),
            replaces: raw.replaces.iter().map(|replaced| replaced.name.as_str().into()).collect(),
            after_the_fact: raw
                .after_the_fact
                .unwrap_or(raw.algorithm == RawAlgorithm::FixedWindow),
            metadata: descriptor.metadata.clone(),
            detailed_metric: descriptor.detailed_metric,
            labels: MetricLabels::new(path, above.with_values || descriptor.detailed_metric),
        })
    }

    fn parse_unit(&mut self, raw: &RawRateLimit, at: &str) -> Option<TimeUnit> {
        let Some(unit) = TimeUnit::parse(&raw.unit) else {
            if raw.unlimited {
                // An unlimited rule has no unit; any one does.
                return Some(TimeUnit::Second);
            }
            let why = "write second, minute, hour, day, week, month or year";
            self.error(&format!("{at}.unit"), why);
            return None;
        };
        if raw.unlimited {
            self.error(at, "an unlimited rule has no unit; leave one of the two out");
        } else if raw.requests_per_unit.is_none() {
            let at = format!("{}: {at}", self.file);
            self.report.warning(&at, "without requests_per_unit every request is refused");
        }
        Some(unit)
    }
}

/// A descriptor in one text, as in envoyproxy/ratelimit: `KEY`, or `KEY_VALUE`.
fn descriptor_key(key: &str, value: &str) -> String {
    if value.is_empty() { key.to_owned() } else { format!("{key}_{value}") }
}

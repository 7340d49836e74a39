//! Metric labels of rules: the path in the file, with or without the values of the request.
//!
//! `detailed_metric` and `value_to_metric` put values that clients choose into labels. So that
//! clients cannot fill the memory, the number of labels of a rule is bounded, over reloads as well:
//! metrics keep every label that was used once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{DescriptorEntry, DescriptorPath};

/// The most labels with clients' values of one rule. Further requests use the rule's own label.
const MAX_LABELS: usize = 1_000;

/// The longest label with clients' values, in bytes. Longer ones become the rule's own label.
const MAX_LABEL_BYTES: usize = 256;

/// The labels of one rule.
pub(super) struct MetricLabels {
    /// The rule's own label: its path in the file.
    path_label: Arc<str>,
    /// True if a descriptor on the path puts clients' values into the label.
    includes_values: bool,
    /// The labels with clients' values that metrics have.
    issued: Mutex<HashMap<Box<str>, Arc<str>>>,
}

impl MetricLabels {
    pub(super) fn new(path: &str, includes_values: bool) -> Self {
        Self { path_label: path.into(), includes_values, issued: Mutex::default() }
    }

    /// Takes over the labels of the rule before a reload, before this one issues any.
    pub(super) fn inherit(&self, before: &Self) {
        let issued = before.issued.lock().unwrap_or_else(PoisonError::into_inner).clone();
        *self.issued.lock().unwrap_or_else(PoisonError::into_inner) = issued;
    }

    /// The label for one request.
    pub(super) fn label_for(
        &self,
        detailed: bool,
        entries: &[DescriptorEntry<'_>],
        path: &DescriptorPath<'_>,
    ) -> Arc<str> {
        if !self.includes_values {
            return Arc::clone(&self.path_label);
        }
        let mut label = String::new();
        for (&(key, value), step) in entries.iter().zip(path) {
            if !label.is_empty() {
                label.push('.');
            }
            label.push_str(key);
            let shown = match step.shared_pattern {
                Some(pattern) => pattern,
                None if detailed || step.node.value_to_metric => value,
                None if step.by_value => &step.node.value,
                None => "",
            };
            if !shown.is_empty() {
                label.push('_');
                label.push_str(shown);
            }
        }
        if label.len() > MAX_LABEL_BYTES {
            return Arc::clone(&self.path_label);
        }
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(label) = issued.get(&*label) {
            return Arc::clone(label);
        }
        if issued.len() >= MAX_LABELS {
            return Arc::clone(&self.path_label);
        }
        let interned = Arc::<str>::from(&*label);
        issued.insert(label.into(), Arc::clone(&interned));
        interned
    }
}

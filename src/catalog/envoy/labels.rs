//! What metrics call a rule: its place in the file, or with what the request said.
//!
//! `detailed_metric` and `value_to_metric` put into a label what clients choose. The operator has
//! asked for it, but clients must not fill the memory: each rule has so many labels and no more, also
//! over reloads, since metrics keep a label that was told once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{DescriptorEntry, DescriptorPath};

/// The most labels with clients' values that a rule has; others share the rule's own.
const MAX_LABELS: usize = 1_000;

/// The longest label with clients' values, in bytes; for longer ones the rule's own stands.
const MAX_LABEL_BYTES: usize = 256;

/// The labels of one rule.
pub(super) struct MetricLabels {
    /// Its place in the file.
    path_label: Arc<str>,
    /// Whether any descriptor on the way to it tells clients' values.
    includes_values: bool,
    issued: Mutex<HashMap<Box<str>, Arc<str>>>,
}

impl MetricLabels {
    pub(super) fn new(path: &str, includes_values: bool) -> Self {
        Self { path_label: path.into(), includes_values, issued: Mutex::default() }
    }

    /// Takes along what another one has told, before anything is told by this one.
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

//! What metrics call a rule: its place in the file, or with what the request said.
//!
//! `detailed_metric` and `value_to_metric` put into a label what clients choose. The operator has
//! asked for it, but clients must not fill the memory: each rule has so many labels and no more, also
//! over reloads, since metrics keep a label that was told once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Entry, Path};

/// The most labels with clients' values that a rule has; others share the rule's own.
const MOST: usize = 1_000;

/// The longest label with clients' values, in bytes; for longer ones the rule's own stands.
const LONGEST: usize = 256;

/// The labels of one rule.
pub(super) struct Labels {
    /// Its place in the file.
    own: Arc<str>,
    /// Whether any descriptor on the way to it tells clients' values.
    tells_values: bool,
    told: Mutex<HashMap<Box<str>, Arc<str>>>,
}

impl Labels {
    pub(super) fn new(own: &str, tells_values: bool) -> Self {
        Self { own: own.into(), tells_values, told: Mutex::default() }
    }

    /// Takes along what another one has told, before anything is told by this one.
    pub(super) fn take(&self, before: &Self) {
        let told = before.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    /// The label for one request.
    pub(super) fn of(&self, detailed: bool, entries: &[Entry<'_>], path: &Path<'_>) -> Arc<str> {
        if !self.tells_values {
            return Arc::clone(&self.own);
        }
        let mut label = String::new();
        for (&(key, value), step) in entries.iter().zip(path) {
            if !label.is_empty() {
                label.push('.');
            }
            label.push_str(key);
            let told = match step.shared {
                Some(pattern) => pattern,
                None if detailed || step.node.value_to_metric => value,
                None if step.by_value => &step.node.value,
                None => "",
            };
            if !told.is_empty() {
                label.push('_');
                label.push_str(told);
            }
        }
        if label.len() > LONGEST {
            return Arc::clone(&self.own);
        }
        let mut known = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(label) = known.get(&*label) {
            return Arc::clone(label);
        }
        if known.len() >= MOST {
            return Arc::clone(&self.own);
        }
        let made = Arc::<str>::from(&*label);
        known.insert(label.into(), Arc::clone(&made));
        made
    }
}

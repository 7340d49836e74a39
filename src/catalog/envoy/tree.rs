//! The tree of descriptors, and the way that a request's entries take through it.

use std::collections::HashMap;

use super::pattern::Pattern;
use super::{Entry, Path, Rule};

/// The descriptors at one depth below the same parent.
#[derive(Default)]
pub(super) struct Level {
    /// By key and value.
    pub(super) exact: HashMap<Box<str>, HashMap<Box<str>, Node>>,
    /// In the file's order.
    pub(super) patterns: Vec<(Pattern, Node)>,
    /// By key alone.
    pub(super) bare: HashMap<Box<str>, Node>,
}

/// One descriptor.
pub(super) struct Node {
    pub(super) rule: Option<Rule>,
    /// The value as it is written; empty where the key stands alone.
    pub(super) value: Box<str>,
    /// Whether metrics tell the request's own value.
    pub(super) value_to_metric: bool,
    /// Whether all values that match its pattern have one counter together.
    pub(super) share_threshold: bool,
    pub(super) below: Level,
}

/// One entry's place on the way.
pub(super) struct Step<'d> {
    pub(super) node: &'d Node,
    /// The pattern under which all its values are counted together.
    pub(super) shared: Option<&'d str>,
    /// Whether the value, or a pattern for it, is in the file.
    pub(super) by_value: bool,
}

impl Level {
    /// The nodes that these entries meet; `None` where one of them meets nothing, or the tree ends
    /// before the entries do.
    pub(super) fn path<'d>(&'d self, entries: &[Entry<'_>]) -> Option<Path<'d>> {
        let mut level = self;
        let mut path = Path::new();
        for &(key, value) in entries {
            let step = level.meet(key, value)?;
            level = &step.node.below;
            path.push(step);
        }
        Some(path)
    }

    /// Takes the labels along that metrics have had so far, where the same descriptors are in both.
    pub(super) fn take_labels(&self, before: &Self) {
        for (key, values) in &self.exact {
            for (value, node) in values {
                if let Some(before) = before.exact.get(key).and_then(|values| values.get(value)) {
                    node.take_labels(before);
                }
            }
        }
        for (pattern, node) in &self.patterns {
            if let Some((_, before)) = before.patterns.iter().find(|(other, _)| other == pattern) {
                node.take_labels(before);
            }
        }
        for (key, node) in &self.bare {
            if let Some(before) = before.bare.get(key) {
                node.take_labels(before);
            }
        }
    }

    fn meet(&self, key: &str, value: &str) -> Option<Step<'_>> {
        if let Some(node) = self.exact.get(key).and_then(|values| values.get(value)) {
            return Some(Step { node, shared: None, by_value: true });
        }
        if !self.patterns.is_empty() {
            let joined = format!("{key}_{value}");
            let found = self.patterns.iter().find(|(pattern, _)| pattern.matches(&joined));
            if let Some((_, node)) = found {
                let shared = node.share_threshold.then_some(&*node.value);
                return Some(Step { node, shared, by_value: true });
            }
        }
        let node = self.bare.get(key)?;
        Some(Step { node, shared: None, by_value: false })
    }
}

impl Node {
    fn take_labels(&self, before: &Self) {
        if let (Some(rule), Some(before)) = (&self.rule, &before.rule) {
            rule.labels.take(&before.labels);
        }
        self.below.take_labels(&before.below);
    }
}

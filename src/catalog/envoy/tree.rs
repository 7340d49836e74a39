//! The tree of descriptors, and the matching of a request's entries against it.

use std::collections::HashMap;

use super::pattern::ValuePattern;
use super::{DescriptorEntry, DescriptorPath, DescriptorRule};

/// The descriptors at one depth below the same parent.
#[derive(Default)]
pub(super) struct DescriptorTree {
    /// Nodes with a value, by key and value.
    pub(super) exact: HashMap<Box<str>, HashMap<Box<str>, DescriptorNode>>,
    /// Nodes with a `*` in their value, in the file's order.
    pub(super) patterns: Vec<(ValuePattern, DescriptorNode)>,
    /// Nodes without a value, by key.
    pub(super) key_only: HashMap<Box<str>, DescriptorNode>,
}

/// One descriptor.
pub(super) struct DescriptorNode {
    pub(super) rule: Option<DescriptorRule>,
    /// The value as written; empty if the node has a key only.
    pub(super) value: Box<str>,
    /// True if the metric label has the value of the request.
    pub(super) value_to_metric: bool,
    /// True if all values that match the pattern share one counter.
    pub(super) share_threshold: bool,
    pub(super) children: DescriptorTree,
}

/// The match of one entry.
pub(super) struct PathStep<'d> {
    pub(super) node: &'d DescriptorNode,
    /// The pattern of which all values share one counter.
    pub(super) shared_pattern: Option<&'d str>,
    /// True if the node has a value or a pattern, false if it has a key only.
    pub(super) by_value: bool,
}

impl DescriptorTree {
    /// The nodes that match the entries; `None` if an entry matches no node.
    pub(super) fn match_path<'d>(
        &'d self,
        entries: &[DescriptorEntry<'_>],
    ) -> Option<DescriptorPath<'d>> {
        let mut level = self;
        let mut path = DescriptorPath::new();
        for &(key, value) in entries {
            let step = level.match_entry(key, value)?;
            level = &step.node.children;
            path.push(step);
        }
        Some(path)
    }

    /// Takes over the metric labels of the descriptors that are in both trees.
    pub(super) fn inherit_labels(&self, before: &Self) {
        for (key, values) in &self.exact {
            for (value, node) in values {
                if let Some(before) = before.exact.get(key).and_then(|values| values.get(value)) {
                    node.inherit_labels(before);
                }
            }
        }
        for (pattern, node) in &self.patterns {
            if let Some((_, before)) = before.patterns.iter().find(|(other, _)| other == pattern) {
                node.inherit_labels(before);
            }
        }
        for (key, node) in &self.key_only {
            if let Some(before) = before.key_only.get(key) {
                node.inherit_labels(before);
            }
        }
    }

    fn match_entry(&self, key: &str, value: &str) -> Option<PathStep<'_>> {
        if let Some(node) = self.exact.get(key).and_then(|values| values.get(value)) {
            return Some(PathStep { node, shared_pattern: None, by_value: true });
        }
        if !self.patterns.is_empty() {
            let joined = format!("{key}_{value}");
            let found = self.patterns.iter().find(|(pattern, _)| pattern.matches(&joined));
            if let Some((_, node)) = found {
                let shared_pattern = node.share_threshold.then_some(&*node.value);
                return Some(PathStep { node, shared_pattern, by_value: true });
            }
        }
        let node = self.key_only.get(key)?;
        Some(PathStep { node, shared_pattern: None, by_value: false })
    }
}

impl DescriptorNode {
    fn inherit_labels(&self, before: &Self) {
        if let (Some(rule), Some(before)) = (&self.rule, &before.rule) {
            rule.labels.inherit(&before.labels);
        }
        self.children.inherit_labels(&before.children);
    }
}

//! The tree of descriptors, and the way that a request's entries take through it.

use std::collections::HashMap;

use super::pattern::ValuePattern;
use super::{DescriptorEntry, DescriptorPath, DescriptorRule};

/// The descriptors at one depth below the same parent.
#[derive(Default)]
pub(super) struct DescriptorTree {
    /// By key and value.
    pub(super) exact: HashMap<Box<str>, HashMap<Box<str>, DescriptorNode>>,
    /// In the file's order.
    pub(super) patterns: Vec<(ValuePattern, DescriptorNode)>,
    /// By key alone.
    pub(super) key_only: HashMap<Box<str>, DescriptorNode>,
}

/// One descriptor.
pub(super) struct DescriptorNode {
    pub(super) rule: Option<DescriptorRule>,
    /// The value as it is written; empty where the key stands alone.
    pub(super) value: Box<str>,
    /// Whether metrics tell the request's own value.
    pub(super) value_to_metric: bool,
    /// Whether all values that match its pattern have one counter together.
    pub(super) share_threshold: bool,
    pub(super) children: DescriptorTree,
}

/// One entry's place on the way.
pub(super) struct PathStep<'d> {
    pub(super) node: &'d DescriptorNode,
    /// The pattern under which all its values are counted together.
    pub(super) shared_pattern: Option<&'d str>,
    /// Whether the value, or a pattern for it, is in the file.
    pub(super) by_value: bool,
}

impl DescriptorTree {
    /// The nodes that these entries meet; `None` where one of them meets nothing, or the tree ends
    /// before the entries do.
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

    /// Takes the labels along that metrics have had so far, where the same descriptors are in both.
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

//! The limits of a stage in AWS' members: read from a stage, or from the catalog file.

use std::collections::BTreeMap;

use serde_json::Value;

use super::limit_settings::ThrottleSettings;
use super::patch::PatchOperation;
use crate::catalog::raw::Consistency;

/// The limits of a stage.
pub struct StageLimits {
    /// The stage's name.
    pub stage_name: String,
    /// The rate limit of all clients of the stage together.
    pub(in crate::control) throttle: Option<ThrottleSettings>,
    /// The throttles of methods, by the keys of the method settings: `*/*`, or `~1pets/GET`.
    pub(in crate::control) methods: BTreeMap<String, ThrottleSettings>,
    /// Further limits of all clients of the stage together, in the catalog's form, as sent.
    pub(in crate::control) limits: Vec<Value>,
    /// Exact unless given.
    pub(in crate::control) consistency: Option<Consistency>,
}

impl StageLimits {
    /// The operations of a patch that gives these limits to a stage that has the limits `current`.
    /// Other settings of methods stay.
    #[must_use]
    pub fn operations_from(&self, current: Option<&Self>) -> Vec<PatchOperation> {
        let mut operations = Vec::new();
        if let Some(current) = current {
            if current.consistency.is_some() && self.consistency.is_none() {
                operations.push(PatchOperation::remove("/consistency"));
            }
            if current.throttle.is_some() && self.throttle.is_none() {
                operations.push(PatchOperation::remove("/throttle"));
            }
            if !current.limits.is_empty() && self.limits.is_empty() {
                operations.push(PatchOperation::remove("/limits"));
            }
            let gone = current.methods.keys().filter(|key| !self.methods.contains_key(*key));
            operations.extend(
                gone.map(|key| PatchOperation::set(format!("/{key}/throttling/rateLimit"), &"-1")),
            );
        }
        let consistency = self.consistency.as_ref();
        operations.extend(consistency.map(|it| PatchOperation::set("/consistency", it)));
        operations.extend(self.throttle.iter().flat_map(|it| it.operations("/throttle")));
        if !self.limits.is_empty() {
            operations.push(PatchOperation::set("/limits", &self.limits));
        }
        for (key, throttle) in &self.methods {
            operations.extend(throttle.operations(&format!("/{key}/throttling")));
        }
        operations
    }
}

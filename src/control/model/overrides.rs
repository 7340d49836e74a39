//! Overrides: a key's own sizes of its plans' limits, in AWS' members.
//!
//! The catalog checks whether they fit the plans.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ControlError;
use super::limit_settings::ThrottleSettings;
use super::patch::{PatchOp, PatchOperation};
use crate::object::{object_map, optional_object};
use crate::syntax::plain_message;

/// A key's overrides, by plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OverridesSpec(
    #[serde(deserialize_with = "object_map")]
    pub(in crate::control)  BTreeMap<String, PlanOverrideSpec>,
);

/// A key's own sizes of one plan's limits. A size that is absent stays the plan's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::control) struct PlanOverrideSpec {
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub throttle: Option<ThrottleSettings>,
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub quota: Option<QuotaSize>,
    /// By the limit's name: its `throttle` or `quota` in the catalog's form, as sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct QuotaSize {
    /// Requests per period.
    pub limit: u64,
}

impl OverridesSpec {
    /// True if nothing is overridden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The plans whose overrides are not the same in `others`.
    pub(in crate::control) fn plans_that_differ_from<'s>(
        &'s self,
        others: &'s Self,
    ) -> impl Iterator<Item = &'s str> {
        let differs =
            |(plan, sizes): &(&String, &PlanOverrideSpec)| others.0.get(*plan) != Some(sizes);
        self.0.iter().filter(differs).map(|(plan, _)| &**plan)
    }

    /// Applies one operation; `path` is the part after `/overrides`.
    pub(super) fn patch(
        &mut self,
        op: PatchOp,
        path: &[&str],
        operation: &PatchOperation,
    ) -> Result<(), ControlError> {
        let json = |what| {
            let read = serde_json::from_str(operation.value()?);
            read.map_err(|error| operation.error(&format!("write {what} in JSON: {error}")))
        };
        match (op, path) {
            (PatchOp::Set, []) => {
                let read = serde_json::from_value(json("an object by plan")?);
                *self = read.map_err(|error| operation.error(&plain_message(error)))?;
            }
            (PatchOp::Remove, []) => self.0.clear(),
            (PatchOp::Remove, [plan]) => drop(self.0.remove(*plan)),
            (op, [plan, member @ ..]) => {
                let sizes = self.0.entry((*plan).to_owned()).or_default();
                match (op, member) {
                    (PatchOp::Set, ["throttle", member]) => {
                        sizes.throttle.get_or_insert_default().set(member, operation)?;
                    }
                    (PatchOp::Set, ["quota", "limit"]) => {
                        sizes.quota = Some(QuotaSize { limit: operation.parse_value()? });
                    }
                    (PatchOp::Set, ["limits", name]) => {
                        sizes.limits.insert((*name).to_owned(), json("its throttle or quota")?);
                    }
                    (PatchOp::Remove, ["throttle"]) => sizes.throttle = None,
                    (PatchOp::Remove, ["throttle", "rateLimit"]) => {
                        sizes.throttle.get_or_insert_default().rate_limit = None;
                    }
                    (PatchOp::Remove, ["throttle", "burstLimit"]) => {
                        sizes.throttle.get_or_insert_default().burst_limit = None;
                    }
                    (PatchOp::Remove, ["quota"] | ["quota", "limit"]) => sizes.quota = None,
                    (PatchOp::Remove, ["limits"]) => sizes.limits.clear(),
                    (PatchOp::Remove, ["limits", name]) => drop(sizes.limits.remove(*name)),
                    _ => return Err(operation.unknown_path()),
                }
                if sizes.throttle == Some(ThrottleSettings::default()) {
                    sizes.throttle = None;
                }
                if *sizes == PlanOverrideSpec::default() {
                    self.0.remove(*plan);
                }
            }
        }
        Ok(())
    }
}

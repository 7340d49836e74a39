//! A key's own sizes of its plans' limits, in the members of AWS' settings, and as the catalog has them.
//!
//! Whether they fit the plans is the catalog's to say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::patch::{Op, Operation};
use super::settings::ThrottleSettings;
use super::{Editor, Error, KeyRecord};
use crate::catalog;
use crate::object::{by_name, optional};

/// By plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overrides(#[serde(deserialize_with = "by_name")] BTreeMap<String, Sizes>);

/// What is not said stays the plan's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sizes {
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    throttle: Option<ThrottleSettings>,
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaSize>,
    /// By the limit's name: its `throttle` or `quota` as the catalog file writes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaSize {
    limit: u64,
}

impl Overrides {
    /// Whether all sizes are the plans'.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The plans of which these say something else than `others`.
    pub(super) fn unlike<'s>(&'s self, others: &'s Self) -> impl Iterator<Item = &'s str> {
        let differs = |(plan, sizes): &(&String, &Sizes)| others.0.get(*plan) != Some(sizes);
        self.0.iter().filter(differs).map(|(plan, _)| &**plan)
    }

    /// As the catalog writes them.
    ///
    /// # Errors
    /// Where a rate is none.
    pub fn declare(&self) -> Result<Value, Error> {
        let plans = self.0.iter().map(|(plan, sizes)| Ok((plan.clone(), sizes.declare()?)));
        Ok(Value::Object(plans.collect::<Result<_, Error>>()?))
    }

    /// As checks need them.
    ///
    /// # Errors
    /// Where they say what cannot be.
    pub(super) fn in_use(&self) -> Result<catalog::LimitOverrides, Error> {
        let overrides = catalog::LimitOverrides::from_json(&self.declare()?);
        overrides.map_err(|faults| Error::BadRequest(faults.join("; ")))
    }

    /// Makes one operation; `path` is what follows `/overrides`.
    pub(super) fn patch(
        &mut self,
        op: Op,
        path: &[&str],
        operation: &Operation,
    ) -> Result<(), Error> {
        let json = |what| {
            let read = serde_json::from_str(operation.value()?);
            read.map_err(|error| operation.refuse(&format!("write {what} in JSON: {error}")))
        };
        match (op, path) {
            (Op::Set, []) => {
                let read = serde_json::from_value(json("an object by plan")?);
                *self = read.map_err(|error| operation.refuse(&error.to_string()))?;
            }
            (Op::Remove, []) => self.0.clear(),
            (Op::Remove, [plan]) => drop(self.0.remove(*plan)),
            (op, [plan, member @ ..]) => {
                let sizes = self.0.entry((*plan).to_owned()).or_default();
                match (op, member) {
                    (Op::Set, ["throttle", member]) => {
                        sizes.throttle.get_or_insert_default().set(member, operation)?;
                    }
                    (Op::Set, ["quota", "limit"]) => {
                        sizes.quota = Some(QuotaSize { limit: operation.parsed()? });
                    }
                    (Op::Set, ["limits", name]) => {
                        sizes.limits.insert((*name).to_owned(), json("its throttle or quota")?);
                    }
                    (Op::Remove, ["throttle"]) => sizes.throttle = None,
                    (Op::Remove, ["throttle", "rateLimit"]) => {
                        sizes.throttle.get_or_insert_default().rate_limit = None;
                    }
                    (Op::Remove, ["throttle", "burstLimit"]) => {
                        sizes.throttle.get_or_insert_default().burst_limit = None;
                    }
                    (Op::Remove, ["quota"] | ["quota", "limit"]) => sizes.quota = None,
                    (Op::Remove, ["limits"]) => sizes.limits.clear(),
                    (Op::Remove, ["limits", name]) => drop(sizes.limits.remove(*name)),
                    _ => return Err(operation.unknown()),
                }
                if sizes.throttle == Some(ThrottleSettings::default()) {
                    sizes.throttle = None;
                }
                if *sizes == Sizes::default() {
                    self.0.remove(*plan);
                }
            }
        }
        Ok(())
    }
}

impl Editor {
    /// That a key's overrides fit its plans, as far as they are not those that it had.
    pub(super) async fn fits(&self, record: &KeyRecord, had: &Overrides) -> Result<(), Error> {
        let mut new = record.overrides().unlike(had).peekable();
        if new.peek().is_none() {
            return Ok(());
        }
        self.sync.look().await?;
        let new: Vec<&str> = new.collect();
        let overrides = record.overrides().in_use()?;
        let mismatches = overrides.mismatches(&self.live.catalog()).into_iter();
        let mismatches = mismatches.filter(|(plan, _)| new.contains(plan));
        let faults: Vec<String> = mismatches.flat_map(|(_, faults)| faults).collect();
        if faults.is_empty() { Ok(()) } else { Err(Error::BadRequest(faults.join("; "))) }
    }

    /// Which of a key's overrides are ignored because its plans have changed since: each with its
    /// place, and why.
    #[must_use]
    pub fn ignored(&self, record: &KeyRecord) -> Vec<String> {
        // What the registry holds was sound when it was written; where it is not, checks say so.
        let overrides = record.overrides().in_use().unwrap_or_default();
        let mismatches = overrides.mismatches(&self.live.catalog());
        mismatches.into_iter().flat_map(|(_, faults)| faults).collect()
    }
}

impl Sizes {
    fn declare(&self) -> Result<Value, Error> {
        let mut declared = Map::new();
        if let Some(throttle) = &self.throttle {
            declared.insert("throttle".into(), throttle.declare_size()?);
        }
        if let Some(QuotaSize { limit }) = self.quota {
            declared.insert("quota".into(), json!({ "limit": limit }));
        }
        if !self.limits.is_empty() {
            declared.insert("limits".into(), json!(self.limits));
        }
        Ok(declared.into())
    }
}

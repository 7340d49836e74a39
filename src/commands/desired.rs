//! A catalog file as the resources that `apply` creates, in AWS' form.
//!
//! A part of the file that AWS' form cannot express exactly is an error that names its place:
//! nothing is rounded, and no limit is left out. Policies, models and units stay the file's.

use super::CommandError;
use crate::catalog::raw::RawCatalog;
use crate::control::translate::{
    Loss, Losses, key_from_catalog, plan_from_catalog, stage_from_catalog,
};
use crate::control::{CreateKey, StageLimits, UsagePlan};

/// The resources that a catalog file declares.
pub(super) struct DesiredState {
    pub(super) stages: Vec<DesiredStage>,
    /// Usage plans, each with its id as the tag `_custom_id_`.
    pub(super) plans: Vec<UsagePlan>,
    pub(super) keys: Vec<DesiredKey>,
    /// The entries that stay the catalog file's, each with the reason.
    pub(super) left_out: Vec<String>,
}

/// The limits of a stage, with the id of its API.
pub(super) struct DesiredStage {
    pub(super) api: String,
    pub(super) limits: StageLimits,
}

/// A key and the ids of its plans.
pub(super) struct DesiredKey {
    pub(super) id: String,
    pub(super) request: CreateKey,
    pub(super) plans: Vec<String>,
}

impl DesiredState {
    /// Translates a valid catalog.
    ///
    /// # Errors
    /// If the admin API cannot express a part of it exactly.
    pub(super) fn from_catalog(catalog: &RawCatalog) -> Result<Self, CommandError> {
        let mut losses = Losses::new();
        let (mut stages, mut plans, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let mut left_out = Vec::new();
        for (place, api) in catalog.apis.iter().enumerate() {
            for (stage_place, stage) in api.stages.iter().enumerate() {
                let at = format!("apis[{place}].stages[{stage_place}]");
                let limits = stage_from_catalog(stage, &at, &mut losses);
                stages.push(DesiredStage { api: api.id.clone(), limits });
            }
        }
        for (place, plan) in catalog.plans.iter().enumerate() {
            let mut plan = plan_from_catalog(plan, &format!("plans[{place}]"), &mut losses);
            plan.spec.tags.insert("_custom_id_".into(), plan.id.clone());
            plans.push(plan);
        }
        for (place, key) in catalog.keys.iter().enumerate() {
            let request = key_from_catalog(key, &format!("keys[{place}]"), &mut losses);
            keys.push(DesiredKey { id: key.id.clone(), request, plans: key.plans.clone() });
        }
        let policies = catalog.policies.iter();
        left_out.extend(
            policies.map(|policy| {
                format!("policy {}: policies are in catalog files only", policy.name)
            }),
        );
        left_out.extend(
            catalog
                .models
                .keys()
                .map(|model| format!("model {model}: models are in catalog files only")),
        );
        left_out.extend(
            catalog
                .units
                .keys()
                .map(|unit| format!("unit {unit}: units are in catalog files only")),
        );
        match losses.into_iter().next() {
            Some(Loss { at, why }) => Err(CommandError::Unsupported(at, why.into())),
            None => Ok(Self { stages, plans, keys, left_out }),
        }
    }
}

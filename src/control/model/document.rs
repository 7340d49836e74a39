//! The document: all APIs and usage plans that the admin API declares, in one entry of the
//! registry.
//!
//! One entry, so that every node reads a change as a whole. API keys are not in it: there may be a
//! million, and each is an entry of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::ControlError;
use super::rest_api::RestApi;
use super::usage_plan::UsagePlan;

/// The largest size of the entry in bytes. Each change reads, composes and commits all of it, and
/// so does each node that follows.
const MAX_ENTRY_BYTES: usize = 4 << 20;

/// APIs and plans, by their ids.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// APIs with their stages.
    pub rest_apis: BTreeMap<String, RestApi>,
    /// Usage plans.
    pub usage_plans: BTreeMap<String, UsagePlan>,
}

impl Document {
    /// Parses the entry of the registry; without one, nothing is declared.
    ///
    /// # Errors
    /// If the entry is no document of this version.
    pub(in crate::control) fn parse(text: Option<&str>) -> Result<Self, ControlError> {
        text.map_or_else(
            || Ok(Self::default()),
            |text| {
                serde_json::from_str(text).map_err(|error| ControlError::Corrupt(error.to_string()))
            },
        )
    }

    /// The entry of the registry.
    ///
    /// # Errors
    /// If it is too large.
    pub(in crate::control) fn to_entry(&self) -> Result<String, ControlError> {
        let entry = serde_json::to_string(self);
        let entry = entry.map_err(|error| ControlError::BadRequest(error.to_string()))?;
        if entry.len() > MAX_ENTRY_BYTES {
            let why = format!(
                "all APIs and usage plans of the API would have {} bytes, and at most {MAX_ENTRY_BYTES} are allowed; delete some, or declare them in the catalog file",
                entry.len()
            );
            return Err(ControlError::BadRequest(why));
        }
        Ok(entry)
    }

    /// The API with this id.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn api(&self, id: &str) -> Result<&RestApi, ControlError> {
        self.rest_apis.get(id).ok_or_else(|| ControlError::not_found("API"))
    }

    /// The API with this id.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn api_mut(&mut self, id: &str) -> Result<&mut RestApi, ControlError> {
        self.rest_apis.get_mut(id).ok_or_else(|| ControlError::not_found("API"))
    }

    /// The plan with this id.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn plan(&self, id: &str) -> Result<&UsagePlan, ControlError> {
        self.usage_plans.get(id).ok_or_else(|| ControlError::not_found("Usage Plan"))
    }

    /// The plan with this id.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn plan_mut(&mut self, id: &str) -> Result<&mut UsagePlan, ControlError> {
        self.usage_plans.get_mut(id).ok_or_else(|| ControlError::not_found("Usage Plan"))
    }

    /// Checks that no plan serves this API, or this stage of it.
    ///
    /// # Errors
    /// If a plan does: it would lose the stage.
    pub fn ensure_unreferenced(&self, api: &str, stage: Option<&str>) -> Result<(), ControlError> {
        match self.usage_plans.values().find(|plan| plan.references(api, stage)) {
            None => Ok(()),
            Some(plan) => Err(ControlError::BadRequest(format!(
                "the usage plan {} has this stage: take it off the plan first",
                plan.id
            ))),
        }
    }
}

//! Everything declared through the API but the keys: one entry of the registry, one catalog.
//!
//! One entry, so that a change is whole for every node that reads it. Keys are entries of their
//! own: there may be a million.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::ControlError;
use super::rest_api::RestApi;
use super::usage_plan::UsagePlan;

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
    /// Reads what the registry holds.
    ///
    /// # Errors
    /// Where it was written by something else.
    pub(in crate::control) fn parse(text: Option<&str>) -> Result<Self, ControlError> {
        text.map_or_else(
            || Ok(Self::default()),
            |text| {
                serde_json::from_str(text).map_err(|error| ControlError::Corrupt(error.to_string()))
            },
        )
    }

    /// The API with this id.
    ///
    /// # Errors
    /// Where there is none.
    pub fn api(&self, id: &str) -> Result<&RestApi, ControlError> {
        self.rest_apis.get(id).ok_or_else(|| ControlError::not_found("API"))
    }

    /// The API with this id.
    ///
    /// # Errors
    /// Where there is none.
    pub fn api_mut(&mut self, id: &str) -> Result<&mut RestApi, ControlError> {
        self.rest_apis.get_mut(id).ok_or_else(|| ControlError::not_found("API"))
    }

    /// The plan with this id.
    ///
    /// # Errors
    /// Where there is none.
    pub fn plan(&self, id: &str) -> Result<&UsagePlan, ControlError> {
        self.usage_plans.get(id).ok_or_else(|| ControlError::not_found("Usage Plan"))
    }

    /// The plan with this id.
    ///
    /// # Errors
    /// Where there is none.
    pub fn plan_mut(&mut self, id: &str) -> Result<&mut UsagePlan, ControlError> {
        self.usage_plans.get_mut(id).ok_or_else(|| ControlError::not_found("Usage Plan"))
    }

    /// That no plan names this API, or this stage of it.
    ///
    /// # Errors
    /// Where one does: without its stage it would serve less than it says.
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

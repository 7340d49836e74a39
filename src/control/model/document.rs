//! The document: all APIs and usage plans that the admin API declares, in one entry of the
//! registry.
//!
//! One entry, so that every node reads a change as a whole. API keys are not in it: there may be a
//! million, and each is an entry of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::error::ControlError;
use super::rest_api::RestApi;
use super::usage_plan::UsagePlan;

/// The largest size of the entry in bytes. Each change reads, composes and commits all of it, and
/// so does each node that follows.
const MAX_ENTRY_BYTES: usize = 4 << 20;

/// APIs and plans, by their ids, and the account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// APIs with their stages.
    pub rest_apis: BTreeMap<String, RestApi>,
    /// Usage plans.
    pub usage_plans: BTreeMap<String, UsagePlan>,
    /// The account of all APIs.
    #[serde(default, skip_serializing_if = "Account::is_empty")]
    pub account: Account,
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

    /// The API with this id, out of the document.
    ///
    /// # Errors
    /// If it does not exist.
    pub(in crate::control) fn take_api(mut self, id: &str) -> Result<RestApi, ControlError> {
        self.rest_apis.remove(id).ok_or_else(|| ControlError::not_found("API"))
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
        self.usage_plans.get(id).ok_or_else(ControlError::no_usage_plan)
    }

    /// The plan with this id.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn plan_mut(&mut self, id: &str) -> Result<&mut UsagePlan, ControlError> {
        self.usage_plans.get_mut(id).ok_or_else(ControlError::no_usage_plan)
    }

    /// Removes an API with its stages. Plans no longer serve them.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn remove_api(&mut self, id: &str) -> Result<(), ControlError> {
        self.rest_apis.remove(id).ok_or_else(|| ControlError::not_found("API"))?;
        self.drop_from_plans(id, None);
        Ok(())
    }

    /// Removes a stage of an API. Plans no longer serve it.
    ///
    /// # Errors
    /// If either does not exist.
    pub fn remove_stage(&mut self, api: &str, name: &str) -> Result<(), ControlError> {
        let removed = self.api_mut(api)?.stages.remove(name);
        removed.ok_or_else(|| ControlError::not_found("stage"))?;
        self.drop_from_plans(api, Some(name));
        Ok(())
    }

    fn drop_from_plans(&mut self, api: &str, stage: Option<&str>) {
        self.usage_plans.values_mut().for_each(|plan| plan.drop_stages(api, stage));
    }

    /// Removes a plan.
    ///
    /// # Errors
    /// If it does not exist, or serves a stage.
    pub fn remove_plan(&mut self, id: &str) -> Result<(), ControlError> {
        self.plan(id)?.ensure_deletable()?;
        self.usage_plans.remove(id);
        Ok(())
    }
}

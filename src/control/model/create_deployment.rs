//! The request that creates a deployment, and gives it to a stage.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::deployments::Deployment;
use super::error::ControlError;
use super::member_types::Members;
use super::rest_api::RestApi;
use super::stage::{Stage, StageSpec};
use crate::object::optional_object;

/// A request to create a deployment. With a stage's name that stage, new or not, serves it at once,
/// and has the members that are for a stage.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CreateDeployment {
    description: Option<String>,
    stage_name: Option<String>,
    stage_description: Option<String>,
    cache_cluster_enabled: Option<bool>,
    cache_cluster_size: Option<String>,
    variables: BTreeMap<String, String>,
    #[serde(deserialize_with = "optional_object")]
    canary_settings: Option<CanarySettings>,
    tracing_enabled: Option<bool>,
}

/// The settings of a canary that serves the deployment beside the stage's own.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct CanarySettings {
    percent_traffic: f64,
    stage_variable_overrides: BTreeMap<String, String>,
    use_stage_cache: bool,
}

impl CreateDeployment {
    /// Creates the deployment. A canary leaves the stage's own deployment as it is.
    ///
    /// # Errors
    /// If a member is of another type than a stage's, is for a stage and none is named, or is a
    /// canary's and there is no such stage. The API may then be changed in part.
    pub fn apply(&self, api: &mut RestApi) -> Result<Deployment, ControlError> {
        let deployment = api.deploy(self.description.clone());
        let mut members = self.stage_members();
        let Some(name) = self.stage_name.as_deref().filter(|name| !name.is_empty()) else {
            return match members.keys().next() {
                None => Ok(deployment),
                Some(_) if self.canary_settings.is_some() => {
                    let given = self.stage_name.as_deref().unwrap_or("null");
                    let why = format!(
                        "Non null and non empty stageName must be provided for canary deployment. Provided value is {given}"
                    );
                    Err(no_canary(&why))
                }
                Some(member) => {
                    let why = format!("{member}: it is a stage's; name the stage in stageName");
                    Err(ControlError::BadRequest(why))
                }
            };
        };
        if let Some(description) = members.remove("stageDescription") {
            members.insert("description".into(), description);
        }
        if let Some(stage) = api.stages.get_mut(name) {
            stage.deploy(&deployment.id, members)?;
        } else if self.canary_settings.is_some() {
            return Err(no_canary(&format!(
                "Stage {name} must already be created before making a canary release deployment"
            )));
        } else {
            let spec = StageSpec::new(name.into(), deployment.id.clone(), members);
            api.stages.insert(name.into(), Stage::new(spec)?);
        }
        Ok(deployment)
    }

    /// The members that are for a stage, without those that say nothing.
    fn stage_members(&self) -> Members {
        let described = self.stage_description.as_ref().filter(|text| !text.is_empty());
        let variables = Some(&self.variables).filter(|variables| !variables.is_empty());
        let members = [
            ("stageDescription", described.map(|it| json!(it))),
            ("cacheClusterEnabled", self.cache_cluster_enabled.map(Value::from)),
            ("cacheClusterSize", self.cache_cluster_size.as_ref().map(|it| json!(it))),
            ("variables", variables.map(|it| json!(it))),
            ("canarySettings", self.canary_settings.as_ref().map(|it| json!(it))),
            ("tracingEnabled", self.tracing_enabled.map(Value::from)),
        ];
        let given = members.into_iter();
        given.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// The error that a deployment cannot be a canary's, in AWS' words.
fn no_canary(why: &str) -> ControlError {
    ControlError::BadRequest(format!("canarySettings: Invalid deployment content specified.{why}"))
}

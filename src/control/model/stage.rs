//! Stages in AWS' members: the deployment that a stage serves, and its settings.
//!
//! Only limits have an effect. The other members (variables, logs, cache, canary) are kept and
//! returned. The settings of methods are in `method_settings`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::deployments::FILE_DEPLOYMENT_ID;
use super::error::ControlError;
use super::ids::now_secs;
use super::limit_settings::ThrottleSettings;
use super::member_patch::patch_members;
use super::member_types::{MemberType, MemberTypes, Members, check_members};
use super::method_settings::MethodSettings;
use super::patch::{Patch, PatchOp, PatchOperation};
use super::stage_limits::StageLimits;
use crate::catalog::raw::Consistency;
use crate::object::optional_object;

/// A stage of an API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    created_date: u64,
    last_updated_date: u64,
    /// True if the catalog file declares it: the admin API only shows it.
    #[serde(skip)]
    from_file: bool,
    #[serde(default)]
    method_settings: MethodSettings,
    #[serde(flatten)]
    spec: StageSpec,
}

/// The members of a stage that a request may change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageSpec {
    /// The name that a check request has in `stage`.
    pub stage_name: String,
    /// The id of the deployment that it serves.
    pub deployment_id: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    /// Beyond AWS: the limit of all clients of the stage together.
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    throttle: Option<ThrottleSettings>,
    /// Beyond AWS: further limits of all its clients, in the catalog's form, as sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    limits: Vec<Value>,
    /// Beyond AWS: exact or leased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    consistency: Option<Consistency>,
    /// The members without effect.
    #[serde(flatten)]
    members: Members,
}

/// The stage's members that are kept and returned without effect.
const STAGE: MemberTypes = &[
    ("description", MemberType::Text),
    ("variables", MemberType::TextMap),
    ("cacheClusterEnabled", MemberType::Flag),
    (
        "cacheClusterSize",
        MemberType::OneOf(&["0.5", "1.6", "6.1", "13.5", "28.4", "58.2", "118", "237"]),
    ),
    ("clientCertificateId", MemberType::Text),
    ("documentationVersion", MemberType::Text),
    ("tracingEnabled", MemberType::Flag),
    (
        "accessLogSettings",
        MemberType::Object(&[("format", MemberType::Text), ("destinationArn", MemberType::Text)]),
    ),
    (
        "canarySettings",
        MemberType::Object(&[
            ("percentTraffic", MemberType::Number(0.0, 100.0)),
            ("deploymentId", MemberType::Text),
            ("stageVariableOverrides", MemberType::TextMap),
            ("useStageCache", MemberType::Flag),
        ]),
    ),
];

/// The paths by which a canary's deployment becomes the stage's.
const PROMOTED_DEPLOYMENT: (&str, &str) = ("/canarySettings/deploymentId", "/deploymentId");
/// The paths by which a canary's variables become the stage's.
const PROMOTED_VARIABLES: (&str, &str) = ("/canarySettings/stageVariableOverrides", "/variables");

impl StageSpec {
    /// A stage with these members besides its name and its deployment.
    #[must_use]
    pub fn new(stage_name: String, deployment_id: String, members: Members) -> Self {
        Self {
            stage_name,
            deployment_id,
            tags: BTreeMap::new(),
            throttle: None,
            limits: Vec::new(),
            consistency: None,
            members,
        }
    }
}

impl Stage {
    /// A new stage without method settings.
    ///
    /// # Errors
    /// If a member is unknown or of another type.
    pub fn new(mut spec: StageSpec) -> Result<Self, ControlError> {
        check_members(&mut spec.members, STAGE, "createStageInput")?;
        let now = now_secs();
        let method_settings = MethodSettings::default();
        let (created_date, last_updated_date) = (now, now);
        Ok(Self { created_date, last_updated_date, from_file: false, method_settings, spec })
    }

    /// A stage of the catalog file, for responses only. `changed` is the time at which the file was
    /// changed, in seconds since 1970.
    pub(super) fn from_file(limits: StageLimits, changed: u64) -> Self {
        let deployment = FILE_DEPLOYMENT_ID.to_owned();
        let spec = StageSpec {
            throttle: limits.throttle,
            limits: limits.limits,
            consistency: Some(limits.consistency.unwrap_or_default()),
            ..StageSpec::new(limits.stage_name, deployment, Members::new())
        };
        Self {
            created_date: changed,
            last_updated_date: changed,
            from_file: true,
            method_settings: MethodSettings::from_throttles(&limits.methods),
            spec,
        }
    }

    /// The stage in AWS' responses, with AWS' defaults. Its cache needs no time to be made.
    #[must_use]
    pub fn to_aws_json(&self) -> Value {
        let mut shown = json!(self);
        shown["methodSettings"] = self.method_settings.to_aws_json();
        let mut default = |name: &str, value: Value| {
            if shown[name].is_null() {
                shown[name] = value;
            }
        };
        default("cacheClusterEnabled", false.into());
        default("tracingEnabled", false.into());
        let is_cached = shown["cacheClusterEnabled"] == true;
        let status = if is_cached { "AVAILABLE" } else { "NOT_AVAILABLE" };
        shown["cacheClusterStatus"] = status.into();
        if is_cached && shown["cacheClusterSize"].is_null() {
            shown["cacheClusterSize"] = "0.5".into();
        }
        if let Some(canary) = shown.get_mut("canarySettings").and_then(Value::as_object_mut) {
            canary.entry("percentTraffic").or_insert(0.0.into());
            canary.entry("useStageCache").or_insert(false.into());
            canary.entry("deploymentId").or_insert(self.deployment().into());
        }
        if self.from_file {
            shown["owner"] = "file".into();
            shown["limits"] = json!(self.spec.limits);
        }
        shown
    }

    /// Its tags.
    pub fn tags(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.spec.tags
    }

    /// The id of the deployment that it serves.
    #[must_use]
    pub fn deployment(&self) -> &str {
        &self.spec.deployment_id
    }

    /// The id of the deployment that its canary serves.
    #[must_use]
    pub fn canary_deployment(&self) -> Option<&str> {
        self.spec.members.get("canarySettings")?.get("deploymentId")?.as_str()
    }

    /// Serves another deployment, with these members beside its own. If they have a canary, the
    /// canary serves it.
    ///
    /// # Errors
    /// If a member is unknown or of another type.
    pub(super) fn deploy(
        &mut self,
        deployment: &str,
        mut members: Members,
    ) -> Result<(), ControlError> {
        check_members(&mut members, STAGE, "createDeploymentInput")?;
        if let Some(canary) = members.get_mut("canarySettings") {
            canary["deploymentId"] = deployment.into();
        } else {
            self.spec.deployment_id = deployment.into();
        }
        if let Some(Value::Object(new)) = members.remove("variables") {
            let variables = self.spec.members.entry("variables").or_insert_with(|| json!({}));
            if let Some(variables) = variables.as_object_mut() {
                variables.extend(new);
            }
        }
        self.spec.members.extend(members);
        self.last_updated_date = now_secs();
        Ok(())
    }

    /// Applies all operations in their order.
    ///
    /// # Errors
    /// If one of them is invalid. The stage may then be changed in part.
    pub fn patch(&mut self, patch: &Patch) -> Result<(), ControlError> {
        patch.operations()?.iter().try_for_each(|operation| self.apply(operation))?;
        self.last_updated_date = now_secs();
        Ok(())
    }

    fn apply(&mut self, operation: &PatchOperation) -> Result<(), ControlError> {
        if let Some(paths) = operation.copied_paths() {
            return self.promote_canary(paths);
        }
        let (op, path) = operation.op_and_path()?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let stage = &mut self.spec;
        match (op, &path[..]) {
            (PatchOp::Set, ["deploymentId"]) => stage.deployment_id = operation.value()?.into(),
            (PatchOp::Set, ["consistency"]) => {
                stage.consistency = Some(operation.parse_word("exact and leased")?);
            }
            (PatchOp::Remove, ["consistency"]) => stage.consistency = None,
            (PatchOp::Set, ["limits"]) => stage.limits = operation.parse_list()?,
            (PatchOp::Remove, ["limits"]) => stage.limits.clear(),
            (PatchOp::Remove, ["throttle"]) => stage.throttle = None,
            (PatchOp::Set, ["throttle", member]) => {
                stage.throttle.get_or_insert_default().set(member, operation)?;
            }
            (op, path) => {
                let is_kept =
                    path.first().is_some_and(|it| STAGE.iter().any(|(name, _)| name == it));
                let is_removal_of_kept = is_kept && op == PatchOp::Remove;
                if is_removal_of_kept || !self.method_settings.patch((op, path), operation)? {
                    patch_members(&mut stage.members, STAGE, (op, path), operation)?;
                }
            }
        }
        Ok(())
    }

    /// Makes the canary's deployment, or its variables, the stage's.
    fn promote_canary(&mut self, (from, to): (&str, &str)) -> Result<(), ControlError> {
        let pair = (from, to);
        if pair != PROMOTED_DEPLOYMENT && pair != PROMOTED_VARIABLES {
            return Err(ControlError::BadRequest(format!(
                "Invalid copy operation with path: {to} and from {from}. Valid copy:path are [/deploymentId, /variables] and valid copy:from are [/canarySettings/deploymentId, /canarySettings/stageVariableOverrides]"
            )));
        }
        let no_canary =
            || ControlError::BadRequest("Promotion not available. Canary does not exist.".into());
        let canary = self.spec.members.get("canarySettings").ok_or_else(no_canary)?;
        if pair == PROMOTED_DEPLOYMENT {
            if let Some(id) = canary["deploymentId"].as_str() {
                self.spec.deployment_id = id.into();
            }
        } else {
            let overrides = canary["stageVariableOverrides"].as_object().cloned();
            let variables = self.spec.members.entry("variables").or_insert_with(|| json!({}));
            if let Some(variables) = variables.as_object_mut() {
                variables.extend(overrides.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Its limits. Of the method settings only those with a rate above 0 are limits.
    #[must_use]
    pub fn limits(&self) -> StageLimits {
        StageLimits {
            stage_name: self.spec.stage_name.clone(),
            throttle: self.spec.throttle.clone(),
            methods: self.method_settings.throttles(),
            limits: self.spec.limits.clone(),
            consistency: self.spec.consistency,
        }
    }
}

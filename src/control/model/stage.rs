//! Stages in AWS' members: the deployment that a stage serves, and the settings of its methods.
//!
//! Only the throttles of the settings have an effect. The others (logging, caching) are stored and
//! returned as sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::ControlError;
use super::ids::now_secs;
use super::limit_settings::ThrottleSettings;
use super::patch::{Patch, PatchOp, PatchOperation, escape_pointer};
use crate::catalog::raw::Consistency;
use crate::object::optional_object;

/// A stage of an API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    created_date: u64,
    last_updated_date: u64,
    /// Settings by the path and method of the request: `*/*`, or `~1pets/GET`.
    #[serde(default)]
    method_settings: BTreeMap<String, Map<String, Value>>,
    #[serde(flatten)]
    spec: StageSpec,
}

/// The members of a stage that a request may change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StageSpec {
    /// The name that a check request has in `stage`.
    pub stage_name: String,
    /// The id of the deployment that it serves.
    pub deployment_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    variables: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    cache_cluster_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_cluster_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    documentation_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canary_settings: Option<Value>,
    #[serde(default)]
    tracing_enabled: bool,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    consistency: Option<Consistency>,
}

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

/// The type of a method setting, as AWS' clients read it.
#[derive(Clone, Copy)]
enum SettingKind {
    /// Requests per second; -1 is AWS' value for no limit.
    Rate,
    /// A bucket's capacity in requests; -1 is AWS' value for no limit.
    Burst,
    Flag,
    Number,
    Text,
}

/// The member of a method's settings that is its rate.
const RATE_MEMBER: &str = "throttlingRateLimit";
/// The member of a method's settings that is its burst.
const BURST_MEMBER: &str = "throttlingBurstLimit";

/// The settings of a method: the group and the name by which a patch calls each, its member, and
/// the kind of its value.
const METHOD_SETTINGS: [(&str, &str, &str, SettingKind); 10] = {
    use SettingKind::{Burst, Flag, Number, Rate, Text};
    const CONTROL: &str = "requireAuthorizationForCacheControl";
    const STRATEGY: &str = "unauthorizedCacheControlHeaderStrategy";
    [
        ("throttling", "rateLimit", RATE_MEMBER, Rate),
        ("throttling", "burstLimit", BURST_MEMBER, Burst),
        ("metrics", "enabled", "metricsEnabled", Flag),
        ("logging", "loglevel", "loggingLevel", Text),
        ("logging", "dataTrace", "dataTraceEnabled", Flag),
        ("caching", "enabled", "cachingEnabled", Flag),
        ("caching", "ttlInSeconds", "cacheTtlInSeconds", Number),
        ("caching", "dataEncrypted", "cacheDataEncrypted", Flag),
        ("caching", CONTROL, CONTROL, Flag),
        ("caching", STRATEGY, STRATEGY, Text),
    ]
};

impl SettingKind {
    /// The value of an operation as one of this kind.
    fn parse_value(self, operation: &PatchOperation) -> Result<Value, ControlError> {
        match self {
            Self::Rate => {
                let rate: f64 = operation.parse_value()?;
                let is_none = rate.to_bits() == (-1.0_f64).to_bits();
                let is_rate = is_none || rate.is_finite() && rate > 0.0;
                let why = "a rate is above 0, or -1 for no limit";
                is_rate.then(|| rate.into()).ok_or_else(|| operation.error(why))
            }
            Self::Burst => {
                let burst: i64 = operation.parse_value()?;
                let why = "a burst is at least 1, or -1 for as much as the rate's second";
                (burst == -1 || burst > 0).then(|| burst.into()).ok_or_else(|| operation.error(why))
            }
            Self::Flag => operation.parse_value::<bool>().map(Value::from),
            Self::Number => operation.parse_value::<u32>().map(Value::from),
            Self::Text => operation.value().map(Value::from),
        }
    }
}

impl StageSpec {
    /// A stage of which no other member is set.
    #[must_use]
    pub fn new(stage_name: String, deployment_id: String, description: Option<String>) -> Self {
        Self {
            stage_name,
            deployment_id,
            description,
            variables: BTreeMap::new(),
            tags: BTreeMap::new(),
            cache_cluster_enabled: false,
            cache_cluster_size: None,
            documentation_version: None,
            canary_settings: None,
            tracing_enabled: false,
            throttle: None,
            limits: Vec::new(),
            consistency: None,
        }
    }
}

impl Stage {
    /// A new stage without method settings.
    #[must_use]
    pub fn new(spec: StageSpec) -> Self {
        let now = now_secs();
        let method_settings = BTreeMap::new();
        Self { created_date: now, last_updated_date: now, method_settings, spec }
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

    /// Serves another deployment.
    pub fn activate(&mut self, deployment: &str) {
        self.spec.deployment_id = deployment.into();
        self.last_updated_date = now_secs();
    }

    /// Applies all operations in their order.
    ///
    /// # Errors
    /// If one of them is invalid.
    pub fn patch(&mut self, patch: &Patch) -> Result<(), ControlError> {
        patch.operations()?.iter().try_for_each(|operation| self.apply(operation))?;
        self.last_updated_date = now_secs();
        Ok(())
    }

    fn apply(&mut self, operation: &PatchOperation) -> Result<(), ControlError> {
        let (op, path) = operation.op_and_path()?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let stage = &mut self.spec;
        match (op, &path[..]) {
            (PatchOp::Set, ["description"]) => stage.description = Some(operation.value()?.into()),
            (PatchOp::Set, ["deploymentId"]) => stage.deployment_id = operation.value()?.into(),
            (PatchOp::Set, ["tracingEnabled"]) => {
                stage.tracing_enabled = operation.parse_value()?;
            }
            (PatchOp::Set, ["cacheClusterEnabled"]) => {
                stage.cache_cluster_enabled = operation.parse_value()?;
            }
            (PatchOp::Set, ["cacheClusterSize"]) => {
                stage.cache_cluster_size = Some(operation.value()?.into());
            }
            (PatchOp::Set, ["variables", name]) => {
                stage.variables.insert((*name).into(), operation.value()?.into());
            }
            (PatchOp::Remove, ["variables", name]) => {
                stage.variables.remove(*name);
            }
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
            (PatchOp::Set, [resource, method, group, member]) => {
                let (_, _, name, kind) = METHOD_SETTINGS
                    .into_iter()
                    .find(|(known, of, ..)| (known, of) == (group, member))
                    .ok_or_else(|| operation.unknown_path())?;
                let value = kind.parse_value(operation)?;
                let settings =
                    self.method_settings.entry(method_settings_key(resource, method)).or_default();
                settings.insert(name.into(), value);
            }
            (PatchOp::Remove, [resource, method]) => {
                self.method_settings.remove(&method_settings_key(resource, method));
            }
            _ => return Err(operation.unknown_path()),
        }
        Ok(())
    }

    /// Its limits. Of the method settings only those with a rate above 0 are limits.
    #[must_use]
    pub fn limits(&self) -> StageLimits {
        let throttle = |settings: &Map<String, Value>| {
            let number = |name: &str| settings.get(name).and_then(Value::as_f64);
            let rate_limit = Some(number(RATE_MEMBER).filter(|rate| *rate > 0.0)?);
            #[expect(clippy::cast_possible_truncation, reason = "saturates, and is then refused")]
            let burst_limit = number(BURST_MEMBER).map(|burst| burst as i64);
            let burst_limit = burst_limit.filter(|burst| *burst != -1);
            Some(ThrottleSettings { rate_limit, burst_limit })
        };
        let methods = self.method_settings.iter();
        let methods = methods.filter_map(|(key, it)| Some((key.clone(), throttle(it)?)));
        StageLimits {
            stage_name: self.spec.stage_name.clone(),
            throttle: self.spec.throttle.clone(),
            methods: methods.collect(),
            limits: self.spec.limits.clone(),
            consistency: self.spec.consistency,
        }
    }
}

impl StageLimits {
    /// The limits as members of a stage.
    #[must_use]
    pub(in crate::control) fn to_aws_json(&self) -> Value {
        let settings = self.methods.iter().map(|(key, throttle)| {
            let ThrottleSettings { rate_limit, burst_limit } = throttle;
            (key.clone(), json!({ RATE_MEMBER: rate_limit, BURST_MEMBER: burst_limit }))
        });
        let mut shown = json!({
            "stageName": self.stage_name,
            "methodSettings": settings.collect::<Map<_, _>>(),
            "limits": self.limits,
            "consistency": self.consistency.unwrap_or_default(),
        });
        if let Some(throttle) = &self.throttle {
            shown["throttle"] = json!(throttle);
        }
        shown
    }

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

/// The key of a method's settings: its path, escaped as in a patch, and the method.
fn method_settings_key(resource: &str, method: &str) -> String {
    format!("{}/{method}", escape_pointer(resource))
}

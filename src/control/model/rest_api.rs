//! REST APIs in AWS' members: resources with their methods, deployments, and stages.
//!
//! Tollgate does not route requests. Members that only routing needs (integrations, models,
//! endpoints) are stored and returned as sent, for the programs that set them, and have no effect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::ControlError;
use super::ids::{new_id, now_secs, random_alphanumeric};
use super::patch::{Patch, PatchOp, PatchOperation};
use super::stage::Stage;

/// A REST API with everything under it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestApi {
    /// Ten random letters and digits, or the value of the tag `_custom_id_`. A check request names
    /// it in `api`.
    pub id: String,
    created_date: u64,
    root_resource_id: String,
    /// The members that a client sets.
    #[serde(flatten)]
    pub spec: ApiSpec,
    /// Resources by their ids.
    pub resources: BTreeMap<String, Resource>,
    /// Deployments by their ids.
    pub deployments: BTreeMap<String, Deployment>,
    /// Stages by their names.
    pub stages: BTreeMap<String, Stage>,
}

/// The members of an API that a request may change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiSpec {
    name: String,
    /// Names for people, and `_custom_id_`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The members that only routing needs.
    #[serde(flatten)]
    pub(super) passthrough: Map<String, Value>,
}

/// The members that are stored and returned without effect.
const PASSTHROUGH_MEMBERS: [&str; 10] = [
    "description",
    "version",
    "apiKeySource",
    "binaryMediaTypes",
    "minimumCompressionSize",
    "endpointConfiguration",
    "policy",
    "disableExecuteApiEndpoint",
    "securityPolicy",
    "endpointAccessMode",
];

/// A path and its methods.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Random letters and digits.
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_part: Option<String>,
    /// The whole path.
    pub path: String,
    /// Methods by the HTTP method, or `ANY`; as sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resource_methods: BTreeMap<String, Value>,
}

/// A snapshot of the resources and methods.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Random letters and digits.
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    created_date: u64,
    pub(super) api_summary: Map<String, Value>,
}

impl RestApi {
    /// A new API with its root resource.
    ///
    /// # Errors
    /// If the request has an unknown member, or its id is invalid.
    pub fn new(spec: ApiSpec) -> Result<Self, ControlError> {
        if let Some(unknown) =
            spec.passthrough.keys().find(|member| !PASSTHROUGH_MEMBERS.contains(&&***member))
        {
            return Err(ControlError::BadRequest(format!(
                "a RestApi has no member `{unknown}` here"
            )));
        }
        let root = Resource {
            id: random_alphanumeric(10),
            parent_id: None,
            path_part: None,
            path: "/".into(),
            resource_methods: BTreeMap::new(),
        };
        Ok(Self {
            id: new_id(&spec.tags)?,
            created_date: now_secs(),
            root_resource_id: root.id.clone(),
            spec,
            resources: [(root.id.clone(), root)].into(),
            deployments: BTreeMap::new(),
            stages: BTreeMap::new(),
        })
    }

    /// The API in AWS' responses, without its resources, deployments and stages.
    #[must_use]
    pub fn to_aws_json(&self) -> Value {
        let mut shown = json!(self);
        if let Some(shown) = shown.as_object_mut() {
            for below in ["resources", "deployments", "stages"] {
                shown.remove(below);
            }
        }
        shown
    }

    /// Applies all operations in their order.
    ///
    /// # Errors
    /// If one of them is invalid.
    pub fn patch(&mut self, patch: &Patch) -> Result<(), ControlError> {
        patch.operations()?.iter().try_for_each(|operation| self.apply(operation))
    }

    fn apply(&mut self, operation: &PatchOperation) -> Result<(), ControlError> {
        let (op, path) = operation.op_and_path()?;
        let passthrough = &mut self.spec.passthrough;
        match (op, path.as_slice()) {
            (PatchOp::Set, [member]) if member == "name" => {
                self.spec.name = operation.value()?.into();
            }
            (PatchOp::Set, [member]) if PASSTHROUGH_MEMBERS.contains(&&**member) => {
                let value = operation.value()?;
                // A patch has numbers and booleans as text.
                let value = match value.parse() {
                    Ok(value @ (Value::Bool(_) | Value::Number(_))) if member != "version" => value,
                    _ => value.into(),
                };
                passthrough.insert(member.clone(), value);
            }
            (PatchOp::Remove, [member]) if PASSTHROUGH_MEMBERS.contains(&&**member) => {
                passthrough.remove(member);
            }
            (op, [member, kind]) if member == "binaryMediaTypes" => {
                let kinds = passthrough.entry("binaryMediaTypes").or_insert_with(|| json!([]));
                let kinds = kinds.as_array_mut().ok_or_else(|| operation.unknown_path())?;
                kinds.retain(|other| other != kind);
                if op == PatchOp::Set {
                    kinds.push(kind.clone().into());
                }
            }
            _ => return Err(operation.unknown_path()),
        }
        Ok(())
    }

    /// Adds a resource under another.
    ///
    /// # Errors
    /// If the parent does not exist, or has a child with this path part.
    pub fn add_resource(&mut self, parent: &str, part: &str) -> Result<&Resource, ControlError> {
        let above = self.resource(parent)?.path.trim_end_matches('/');
        if !is_path_part(part) {
            let shown: String = part.chars().take(100).collect();
            let why =
                format!("`{shown}` is no path part; it is one segment, such as pets or {{id}}");
            return Err(ControlError::BadRequest(why));
        }
        let path = format!("{above}/{part}");
        if self.resources.values().any(|resource| resource.path == path) {
            let why =
                format!("Another resource with the same parent already has this name: {part}");
            return Err(ControlError::Conflict(why));
        }
        let id = random_alphanumeric(6);
        let resource = Resource {
            id: id.clone(),
            parent_id: Some(parent.into()),
            path_part: Some(part.into()),
            path,
            resource_methods: BTreeMap::new(),
        };
        Ok(self.resources.entry(id).or_insert(resource))
    }

    /// The resource with this id.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn resource(&self, id: &str) -> Result<&Resource, ControlError> {
        self.resources.get(id).ok_or_else(|| ControlError::not_found("resource"))
    }

    /// The resource with this id.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn resource_mut(&mut self, id: &str) -> Result<&mut Resource, ControlError> {
        self.resources.get_mut(id).ok_or_else(|| ControlError::not_found("resource"))
    }

    /// Removes a resource and everything below it.
    ///
    /// # Errors
    /// If it does not exist, or is the root.
    pub fn remove_resource(&mut self, id: &str) -> Result<(), ControlError> {
        let path = self.resource(id)?.path.clone();
        if id == self.root_resource_id {
            return Err(ControlError::BadRequest("The root resource cannot be deleted".into()));
        }
        let below = format!("{path}/");
        self.resources.retain(|_, other| other.path != path && !other.path.starts_with(&below));
        Ok(())
    }

    /// Stores a snapshot of the resources and methods as a deployment.
    pub fn deploy(&mut self, description: Option<String>) -> Deployment {
        let methods = |resource: &Resource| -> Map<String, Value> {
            let snapshot = |method: &Value| {
                json!({
                    "authorizationType": method.get("authorizationType"),
                    "apiKeyRequired": method.get("apiKeyRequired").is_some_and(|it| *it == true),
                })
            };
            let methods = resource.resource_methods.iter();
            methods.map(|(name, method)| (name.clone(), snapshot(method))).collect()
        };
        let with_methods = self.resources.values().filter(|it| !it.resource_methods.is_empty());
        let api_summary = with_methods.map(|it| (it.path.clone(), methods(it).into())).collect();
        let deployment = Deployment {
            id: random_alphanumeric(6),
            description,
            created_date: now_secs(),
            api_summary,
        };
        self.deployments.insert(deployment.id.clone(), deployment.clone());
        deployment
    }

    /// The stage with this name.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn stage(&self, name: &str) -> Result<&Stage, ControlError> {
        self.stages.get(name).ok_or_else(|| ControlError::not_found("stage"))
    }
}

impl Deployment {
    /// The deployment in AWS' responses; the summary of its methods only `with_summary`.
    #[must_use]
    pub fn to_aws_json(&self, with_summary: bool) -> Value {
        let mut shown = json!(self);
        if let Some(shown) = shown.as_object_mut().filter(|_| !with_summary) {
            shown.remove("apiSummary");
        }
        shown
    }

    /// Applies all operations in their order; only the description can change.
    ///
    /// # Errors
    /// If one of them is invalid.
    pub fn patch(&mut self, patch: &Patch) -> Result<(), ControlError> {
        for operation in patch.operations()? {
            let (op, member) = operation.op_and_path()?;
            match (op, member.as_slice()) {
                (PatchOp::Set, [member]) if member == "description" => {
                    self.description = Some(operation.value()?.into());
                }
                _ => return Err(operation.unknown_path()),
            }
        }
        Ok(())
    }
}

/// True if this is one segment of a path in AWS' syntax: `pets`, `{id}`, or `{proxy+}`.
fn is_path_part(part: &str) -> bool {
    let name = part.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
    let plain = name.map_or(part, |name| name.strip_suffix('+').unwrap_or(name));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:$~!*'()@,;=&+".contains(c);
    let is_dots = name.is_none() && matches!(part, "." | "..");
    !plain.is_empty() && part.len() <= 255 && plain.chars().all(is_plain) && !is_dots
}

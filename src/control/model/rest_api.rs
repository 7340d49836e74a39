//! REST APIs in AWS' members, with their resources, deployments and stages.
//!
//! Tollgate does not route requests. Members that only routing needs are kept and returned, for
//! the programs that set them, and have no effect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api_definition::ApiDefinition;
use super::deployments::Deployment;
use super::error::ControlError;
use super::ids::{new_id, now_secs, random_alphanumeric};
use super::member_patch::patch_members;
use super::member_types::{MemberType, MemberTypes, Members, check_members, remove_mistyped};
use super::patch::{Patch, PatchOp};
use super::resources::Resources;
use super::stage::Stage;
use super::stage_limits::StageLimits;

/// A REST API with everything under it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestApi {
    /// Ten random letters and digits, or the value of the tag `_custom_id_`. A check request names
    /// it in `api`.
    pub id: String,
    pub(super) created_date: u64,
    root_resource_id: String,
    /// True if the catalog file declares it: the admin API only shows it.
    #[serde(skip)]
    from_file: bool,
    /// The members that a client sets.
    #[serde(flatten)]
    pub spec: ApiSpec,
    /// Resources by their ids.
    pub resources: Resources,
    /// Deployments by their ids.
    pub deployments: BTreeMap<String, Deployment>,
    /// Stages by their names.
    pub stages: BTreeMap<String, Stage>,
}

/// The members of an API that a request may change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiSpec {
    pub(super) name: String,
    /// Names for people, and `_custom_id_`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The members that only routing needs.
    #[serde(flatten)]
    pub(super) members: Members,
}

/// The member with the kind of the API's endpoint.
const ENDPOINT: &str = "endpointConfiguration";

/// The kind of an endpoint that is in a private network alone.
const PRIVATE: &str = "PRIVATE";
/// The addresses of an endpoint that has those of both versions of IP.
const DUALSTACK: &str = "dualstack";

/// The member with the types of bodies that are binary.
const MEDIA_TYPES: &str = "binaryMediaTypes";

/// The member with the policy of the API.
const POLICY: &str = "policy";

/// The API's members that are kept and returned without effect.
const REST_API: MemberTypes = &[
    ("description", MemberType::Text),
    ("version", MemberType::Text),
    ("apiKeySource", MemberType::OneOf(&["HEADER", "AUTHORIZER"])),
    (MEDIA_TYPES, MemberType::TextSet),
    ("minimumCompressionSize", MemberType::Whole(0, 10_485_760)),
    (
        ENDPOINT,
        MemberType::Object(&[
            ("types", MemberType::WordList(&["EDGE", "REGIONAL", PRIVATE])),
            ("ipAddressType", MemberType::OneOf(&["ipv4", DUALSTACK])),
            ("vpcEndpointIds", MemberType::TextList),
        ]),
    ),
    (POLICY, MemberType::Json),
    ("disableExecuteApiEndpoint", MemberType::Flag),
    ("securityPolicy", MemberType::OneOf(&SECURITY_POLICIES)),
    ("endpointAccessMode", MemberType::OneOf(&["BASIC", "STRICT"])),
];

/// The TLS policies of an endpoint that AWS names.
const SECURITY_POLICIES: [&str; 14] = [
    "TLS_1_0",
    "TLS_1_2",
    "SecurityPolicy_TLS13_1_3_2025_09",
    "SecurityPolicy_TLS13_1_3_FIPS_2025_09",
    "SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09",
    "SecurityPolicy_TLS13_1_2_FIPS_PQ_2025_09",
    "SecurityPolicy_TLS13_1_2_FIPS_PFS_PQ_2025_09",
    "SecurityPolicy_TLS13_1_2_Ext2_PQ_2025_09",
    "SecurityPolicy_TLS13_1_2_Ext2_FIPS_PQ_2025_09",
    "SecurityPolicy_TLS13_1_2_PQ_2025_09",
    "SecurityPolicy_TLS13_1_2_2021_06",
    "SecurityPolicy_TLS13_2025_EDGE",
    "SecurityPolicy_TLS12_PFS_2025_EDGE",
    "SecurityPolicy_TLS12_2018_EDGE",
];

impl RestApi {
    /// A new API with its root resource.
    ///
    /// # Errors
    /// If a member is unknown or of another type, or its id is invalid.
    pub fn new(mut spec: ApiSpec) -> Result<Self, ControlError> {
        check_members(&mut spec.members, REST_API, "createRestApiInput")?;
        check_created(&spec.members)?;
        spec.members.retain(|name, value| name != MEDIA_TYPES || *value != json!([]));
        add_defaults(&mut spec.members);
        check_private(&spec.members)?;
        let root_resource_id = random_alphanumeric(10);
        Ok(Self {
            id: new_id(&spec.tags)?,
            created_date: now_secs(),
            resources: Resources::new(root_resource_id.clone()),
            root_resource_id,
            from_file: false,
            spec,
            deployments: BTreeMap::new(),
            stages: BTreeMap::new(),
        })
    }

    /// An API of the catalog file, for responses only: the file has no resources, and one
    /// deployment that all stages serve. `changed` is the time at which the file was changed, in
    /// seconds since 1970.
    pub(in crate::control) fn from_file(id: &str, stages: Vec<StageLimits>, changed: u64) -> Self {
        let root_resource_id = "root".to_owned();
        let resources = Resources::new(root_resource_id.clone());
        let deployment = Deployment::from_file(changed, &resources);
        let stage = |limits| Stage::from_file(limits, changed);
        let stages = stages.into_iter().map(|limits| (limits.stage_name.clone(), stage(limits)));
        Self {
            id: id.to_owned(),
            created_date: changed,
            root_resource_id,
            from_file: true,
            spec: ApiSpec { name: id.to_owned(), tags: BTreeMap::new(), members: Members::new() },
            resources,
            deployments: [(deployment.id.clone(), deployment)].into(),
            stages: stages.collect(),
        }
    }

    /// The API in AWS' responses, without its resources, deployments and stages.
    #[must_use]
    pub fn to_aws_json(&self) -> Value {
        let mut shown = json!(self);
        if let Some(shown) = shown.as_object_mut() {
            add_defaults(shown);
            if let Some(Value::String(policy)) = shown.get_mut(POLICY) {
                *policy = escaped(policy);
            }
            for below in ["resources", "deployments", "stages"] {
                shown.remove(below);
            }
            if self.from_file {
                shown.insert("owner".into(), "file".into());
            }
        }
        shown
    }

    /// Applies all operations in their order.
    ///
    /// # Errors
    /// If one of them is invalid. The API may then be changed in part.
    pub fn patch(&mut self, patch: &Patch) -> Result<(), ControlError> {
        add_defaults(&mut self.spec.members);
        for operation in patch.operations()? {
            let (op, segments) = operation.op_and_path()?;
            let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
            if let (PatchOp::Set, ["name"]) = (op, &segments[..]) {
                self.spec.name = operation.value()?.into();
                continue;
            }
            patch_members(&mut self.spec.members, REST_API, (op, &segments), operation)?;
            if matches!(segments[..], [ENDPOINT, "types", ..]) && is_private(&self.spec.members) {
                self.spec.members[ENDPOINT]["ipAddressType"] = DUALSTACK.into();
            }
        }
        check_private(&self.spec.members)
    }

    /// A new API as a document defines it.
    ///
    /// # Errors
    /// If a member is unknown or of another type, or a path is invalid.
    pub fn from_definition(definition: &ApiDefinition) -> Result<Self, ControlError> {
        let members = definition.members.clone();
        let spec = ApiSpec { name: definition.name.clone(), tags: BTreeMap::new(), members };
        let mut api = Self::new(spec)?;
        api.resources.put_methods(&definition.paths)?;
        Ok(api)
    }

    /// Adds a definition to the API. Where both have a member or a method, the definition's is
    /// used.
    ///
    /// # Errors
    /// If a member is unknown or of another type, or a path is invalid. The API may then be changed
    /// in part.
    pub fn merge(&mut self, definition: &ApiDefinition) -> Result<(), ControlError> {
        let mut members = definition.members.clone();
        check_members(&mut members, REST_API, "putRestApiInput")?;
        self.spec.name.clone_from(&definition.name);
        if let Some(Value::Object(given)) = members.remove(ENDPOINT) {
            let kept = self.spec.members.entry(ENDPOINT).or_insert_with(|| json!({}));
            kept.as_object_mut().into_iter().for_each(|kept| kept.extend(given.clone()));
        }
        if let (Some(Value::Array(kept)), Some(Value::Array(given))) =
            (self.spec.members.get_mut(MEDIA_TYPES), members.get(MEDIA_TYPES))
        {
            let new: Vec<Value> = given.iter().filter(|it| !kept.contains(it)).cloned().collect();
            kept.extend(new);
            members.remove(MEDIA_TYPES);
        }
        self.spec.members.extend(members);
        add_defaults(&mut self.spec.members);
        self.resources.put_methods(&definition.paths)
    }

    /// Replaces the API by a definition. Its id, its tags, the kind of its endpoint, deployments
    /// and stages stay; its resources are new.
    ///
    /// # Errors
    /// If a member is unknown or of another type, or a path is invalid. The API may then be changed
    /// in part.
    pub fn overwrite(&mut self, definition: &ApiDefinition) -> Result<(), ControlError> {
        self.spec.members.retain(|name, _| name == ENDPOINT);
        self.root_resource_id = random_alphanumeric(10);
        self.resources = Resources::new(self.root_resource_id.clone());
        self.merge(definition)
    }

    /// Stores a snapshot of the resources and methods as a deployment.
    pub fn deploy(&mut self, description: Option<String>) -> Deployment {
        let deployment = Deployment::new(description, &self.resources);
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

/// A text as within the quotes of a JSON string: AWS returns policies so, and its clients undo it.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

/// Adds the members that AWS' responses always have.
fn add_defaults(members: &mut Members) {
    remove_mistyped(members, REST_API);
    members.entry("apiKeySource").or_insert("HEADER".into());
    members.entry("disableExecuteApiEndpoint").or_insert(false.into());
    let endpoint = members.entry(ENDPOINT).or_insert_with(|| json!({}));
    if endpoint["types"].as_array().is_none_or(Vec::is_empty) {
        endpoint["types"] = json!(["EDGE"]);
    }
    if endpoint["ipAddressType"].is_null() {
        let is_private = endpoint["types"][0] == PRIVATE;
        endpoint["ipAddressType"] = if is_private { DUALSTACK } else { "ipv4" }.into();
    }
}

/// Checks as AWS what a new API has.
fn check_created(members: &Members) -> Result<(), ControlError> {
    let types = members.get(ENDPOINT).and_then(|endpoint| endpoint["types"].as_array());
    let why = if members.get("description").is_some_and(|text| *text == "") {
        "Description cannot be an empty string"
    } else {
        match types.map(Vec::len) {
            None | Some(1) => return Ok(()),
            Some(0) => "REGIONAL Configuration and EDGE Configuration cannot be both DISABLED.",
            Some(_) => "Cannot create an api with multiple Endpoint Types.",
        }
    };
    Err(ControlError::BadRequest(why.into()))
}

fn is_private(members: &Members) -> bool {
    members.get(ENDPOINT).is_some_and(|endpoint| endpoint["types"][0] == PRIVATE)
}

/// Checks as AWS that a private API has addresses of both versions of IP.
fn check_private(members: &Members) -> Result<(), ControlError> {
    let is_dualstack =
        members.get(ENDPOINT).is_some_and(|endpoint| endpoint["ipAddressType"] == DUALSTACK);
    if is_private(members) && !is_dualstack {
        let why = "Only dualstack ipAddressType is supported for Private APIs.";
        return Err(ControlError::BadRequest(why.into()));
    }
    Ok(())
}

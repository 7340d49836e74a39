//! Methods of a resource, with their responses; their integrations are in `integrations`.
//!
//! Tollgate does not route requests, so what only routing needs is kept and returned, and has no
//! effect.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::ControlError;
use super::integrations::Integration;
use super::member_patch::patch_all;
use super::member_types::{MemberType, MemberTypes, Members, check_members};
use super::patch::Patch;
use super::status_responses::{ResponseOwner, StatusResponse};

/// The HTTP methods that a resource may have.
pub(super) const HTTP_METHODS: [&str; 8] =
    ["ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

/// The member with the kind of a method's authorization.
const AUTHORIZATION: &str = "authorizationType";

/// The member with the id of a method's authorizer.
const AUTHORIZER: &str = "authorizerId";
/// The member with the scopes that an authorizer's token must have.
const SCOPES: &str = "authorizationScopes";
/// The member with the parameters of a request.
const PARAMETERS: &str = "requestParameters";

const METHOD: MemberTypes = &[
    (AUTHORIZATION, MemberType::OneOf(&["NONE", "AWS_IAM", "CUSTOM", "COGNITO_USER_POOLS"])),
    (AUTHORIZER, MemberType::Text),
    (SCOPES, MemberType::TextList),
    ("apiKeyRequired", MemberType::Flag),
    ("operationName", MemberType::Text),
    (PARAMETERS, MemberType::FlagMap),
    ("requestModels", MemberType::TextMap),
    ("requestValidatorId", MemberType::Text),
];

/// A method of a resource.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Method {
    #[serde(rename = "httpMethod")]
    name: String,
    /// The backend of the method, if it has one.
    #[serde(default, rename = "methodIntegration", skip_serializing_if = "Option::is_none")]
    pub integration: Option<Integration>,
    /// The responses of the method, by status code.
    #[serde(default, rename = "methodResponses", skip_serializing_if = "BTreeMap::is_empty")]
    responses: BTreeMap<String, StatusResponse>,
    #[serde(flatten)]
    members: Members,
}

impl Method {
    /// A method with the members that a request gives.
    ///
    /// # Errors
    /// If it is no HTTP method, or a member is unknown, missing or of another type.
    pub fn new(name: &str, mut members: Members) -> Result<Self, ControlError> {
        if !HTTP_METHODS.contains(&name) {
            let names = HTTP_METHODS.join(",");
            return Err(ControlError::BadRequest(format!(
                "Invalid HttpMethod specified. Valid options are {names}"
            )));
        }
        // AWS accepts it in any case, and returns it in upper case.
        if let Some(Value::String(kind)) = members.get_mut(AUTHORIZATION) {
            kind.make_ascii_uppercase();
        }
        check_members(&mut members, METHOD, "putMethodInput")?;
        if !members.contains_key(AUTHORIZATION) {
            let why = "a method needs an authorizationType, such as NONE";
            return Err(ControlError::BadRequest(why.into()));
        }
        members.entry("apiKeyRequired").or_insert(false.into());
        check_method(&members)?;
        Ok(Self { name: name.into(), integration: None, responses: BTreeMap::new(), members })
    }

    /// The method in AWS' responses; `resource` is the id of its resource.
    #[must_use]
    pub fn to_aws_json(&self, resource: &str) -> Value {
        let mut shown = json!(self);
        if let Some(integration) = &self.integration {
            shown["methodIntegration"] = integration.to_aws_json(resource);
        }
        shown
    }

    /// The method of a deployment, of which its summary has some members; `now` is the method as
    /// it is now, if it still exists.
    pub(super) fn as_deployed(name: &str, now: Option<&Self>, summary: &Members) -> Self {
        let mut method = now.cloned().unwrap_or_else(|| Self {
            name: name.into(),
            integration: None,
            responses: BTreeMap::new(),
            members: Members::new(),
        });
        let summary = summary.iter().filter(|(_, value)| !value.is_null());
        method.members.extend(summary.map(|(member, value)| (member.clone(), value.clone())));
        method
    }

    /// The method in a deployment's summary.
    pub(super) fn to_snapshot(&self) -> Value {
        json!({
            AUTHORIZATION: self.members.get(AUTHORIZATION),
            "apiKeyRequired": self.members.get("apiKeyRequired").is_some_and(|it| *it == true),
        })
    }

    /// Applies all operations in their order.
    ///
    /// # Errors
    /// If one of them is invalid. The method may then be changed in part.
    pub fn patch(&mut self, patch: &Patch) -> Result<(), ControlError> {
        patch_all(&mut self.members, METHOD, patch)?;
        check_method(&self.members)
    }

    /// The integration.
    ///
    /// # Errors
    /// If there is none.
    pub fn integration(&self) -> Result<&Integration, ControlError> {
        self.integration.as_ref().ok_or_else(|| ControlError::not_found("Integration"))
    }

    /// The integration.
    ///
    /// # Errors
    /// If there is none.
    pub fn integration_mut(&mut self) -> Result<&mut Integration, ControlError> {
        self.integration.as_mut().ok_or_else(|| ControlError::not_found("Integration"))
    }

    /// The responses of the method or of its integration, by status code.
    ///
    /// # Errors
    /// If it has no integration.
    pub fn responses(
        &self,
        owner: ResponseOwner,
    ) -> Result<&BTreeMap<String, StatusResponse>, ControlError> {
        match owner {
            ResponseOwner::Method => Ok(&self.responses),
            ResponseOwner::Integration => Ok(&self.integration()?.responses),
        }
    }

    /// The responses of the method or of its integration, by status code.
    ///
    /// # Errors
    /// If it has no integration.
    pub fn responses_mut(
        &mut self,
        owner: ResponseOwner,
    ) -> Result<&mut BTreeMap<String, StatusResponse>, ControlError> {
        match owner {
            ResponseOwner::Method => Ok(&mut self.responses),
            ResponseOwner::Integration => Ok(&mut self.integration_mut()?.responses),
        }
    }
}

/// Checks as AWS that a method has no authorizer, of which there are none, and that no two of its
/// parameters have the same name.
fn check_method(members: &Members) -> Result<(), ControlError> {
    let refused = |why: &str| Err(ControlError::BadRequest(why.into()));
    let is_by_authorizer = members
        .get(AUTHORIZATION)
        .is_some_and(|kind| kind == "CUSTOM" || kind == "COGNITO_USER_POOLS");
    let has = |name| members.get(name).is_some_and(|value| *value != "" && *value != json!([]));
    if is_by_authorizer || has(AUTHORIZER) {
        return refused(
            "authorizerId: Invalid authorizer ID specified. Setting the authorization type to CUSTOM or COGNITO_USER_POOLS requires a valid authorizer.",
        );
    }
    if has(SCOPES) {
        return refused(
            "authorizationScopes are for COGNITO_USER_POOLS authorizers, of which there are none",
        );
    }
    let mut names = BTreeSet::new();
    for parameter in members.get(PARAMETERS).and_then(Value::as_object).into_iter().flatten() {
        // `method.request.header.NAME`
        let name = parameter.0.splitn(4, '.').nth(3).unwrap_or(parameter.0);
        if !names.insert(name) {
            return refused("Parameter names must be unique across querystring, header and path");
        }
    }
    Ok(())
}

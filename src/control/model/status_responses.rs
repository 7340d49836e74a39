//! Responses of methods and of their integrations, by status code. They are kept and returned.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ControlError;
use super::integrations::CONTENT_HANDLING;
use super::member_patch::patch_all;
use super::member_types::{MemberType, MemberTypes, Members, check_members};
use super::patch::Patch;

const METHOD_RESPONSE: MemberTypes =
    &[("responseParameters", MemberType::FlagMap), ("responseModels", MemberType::TextMap)];

const INTEGRATION_RESPONSE: MemberTypes = &[
    ("selectionPattern", MemberType::Text),
    ("responseParameters", MemberType::TextMap),
    ("responseTemplates", MemberType::TextMap),
    ("contentHandling", CONTENT_HANDLING),
];

/// The owner of a response.
#[derive(Clone, Copy)]
pub enum ResponseOwner {
    /// A method.
    Method,
    /// The integration of a method.
    Integration,
}

/// A response with one status code.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusResponse {
    status_code: String,
    #[serde(flatten)]
    members: Members,
}

impl ResponseOwner {
    fn types(self) -> MemberTypes {
        match self {
            Self::Method => METHOD_RESPONSE,
            Self::Integration => INTEGRATION_RESPONSE,
        }
    }

    /// AWS' name of the request that puts a response.
    fn input(self) -> &'static str {
        match self {
            Self::Method => "putMethodResponseInput",
            Self::Integration => "putIntegrationResponseInput",
        }
    }
}

impl StatusResponse {
    /// Checks that a text is a status code.
    ///
    /// # Errors
    /// If it is none, in AWS' words.
    pub fn check_code(status_code: &str) -> Result<(), ControlError> {
        match status_code.as_bytes() {
            [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] => Ok(()),
            _ => Err(ControlError::no_status_code(status_code)),
        }
    }

    /// A response with the members that a request gives.
    ///
    /// # Errors
    /// If the status code is none, or a member is unknown or of another type.
    pub fn new(
        owner: ResponseOwner,
        status_code: &str,
        mut members: serde_json::Map<String, Value>,
    ) -> Result<Self, ControlError> {
        Self::check_code(status_code)?;
        check_members(&mut members, owner.types(), owner.input())?;
        Ok(Self { status_code: status_code.into(), members })
    }

    /// Applies all operations in their order.
    ///
    /// # Errors
    /// If one of them is invalid. The response may then be changed in part.
    pub fn patch(&mut self, owner: ResponseOwner, patch: &Patch) -> Result<(), ControlError> {
        self.check_removals(owner, patch)?;
        patch_all(&mut self.members, owner.types(), patch)
    }

    /// Checks as AWS that a response of a method has the entries that a patch replaces or removes.
    fn check_removals(&self, owner: ResponseOwner, patch: &Patch) -> Result<(), ControlError> {
        let operations = match owner {
            ResponseOwner::Method => patch.operations()?,
            ResponseOwner::Integration => &[],
        };
        let mut added = Vec::new();
        for operation in operations {
            let Some((member, entry)) = operation.entry() else { continue };
            let has = self.members.get(&member).is_some_and(|it| it.get(&entry).is_some());
            let place = (member, entry);
            if operation.is_add() {
                added.push(place);
            } else if !has && !added.contains(&place) {
                let why = match &*place.0 {
                    "responseParameters" => "Invalid parameter name specified",
                    "responseModels" => "Content-Type specified was not found",
                    _ => continue,
                };
                return Err(ControlError::NotFound(why.into()));
            }
        }
        Ok(())
    }
}

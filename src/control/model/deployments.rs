//! Deployments: snapshots of an API's resources and methods, which stages serve.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::ControlError;
use super::ids::{now_secs, random_alphanumeric};
use super::patch::{Patch, PatchOp};
use super::resources::{Resource, Resources};

/// The id of the deployment of an API of the catalog file.
pub(super) const FILE_DEPLOYMENT_ID: &str = "file";

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

impl Deployment {
    /// A snapshot of the resources as they are now.
    pub(super) fn new(description: Option<String>, resources: &Resources) -> Self {
        let methods = |resource: &Resource| -> Map<String, Value> {
            let methods = resource.resource_methods.iter();
            methods.map(|(name, method)| (name.clone(), method.to_snapshot())).collect()
        };
        let resources = resources.iter().map(|(_, resource)| resource);
        let with_methods = resources.filter(|it| !it.resource_methods.is_empty());
        let api_summary = with_methods.map(|it| (it.path.clone(), methods(it).into())).collect();
        Self { id: random_alphanumeric(6), description, created_date: now_secs(), api_summary }
    }

    /// The deployment that all stages of an API of the catalog file serve. `changed` is the time at
    /// which the file was changed, in seconds since 1970.
    pub(super) fn from_file(changed: u64, resources: &Resources) -> Self {
        let id = FILE_DEPLOYMENT_ID.to_owned();
        Self { id, created_date: changed, ..Self::new(None, resources) }
    }

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

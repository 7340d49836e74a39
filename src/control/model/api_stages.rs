//! The stages that a plan serves, with the plan's throttles of their methods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::ControlError;
use super::limit_settings::ThrottleSettings;
use super::method_keys;
use super::patch::{PatchOp, PatchOperation, escape_pointer};
use crate::object::object_map;
use crate::syntax::plain_message;

/// A stage that a plan serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::control) struct ApiStage {
    /// The API's id.
    pub api_id: String,
    /// The stage's name.
    pub stage: String,
    /// The throttles of methods, by path and method as in `/pets/GET`.
    #[serde(default, deserialize_with = "object_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub throttle: BTreeMap<String, ThrottleSettings>,
}

impl ApiStage {
    /// A stage without throttles of its own.
    pub(super) fn new(api: &str, stage: &str) -> Self {
        Self { api_id: api.into(), stage: stage.into(), throttle: BTreeMap::new() }
    }

    /// True if it is this stage of an API, or any stage of it.
    pub(super) fn is(&self, api: &str, stage: Option<&str>) -> bool {
        self.api_id == api && stage.is_none_or(|stage| self.stage == stage)
    }

    /// Its name in patches: `API:STAGE`.
    pub(super) fn patch_name(&self) -> String {
        format!("{}:{}", self.api_id, self.stage)
    }

    /// Applies an operation at `.../throttle` and below; `path` is the part after it.
    pub(super) fn patch_throttle(
        &mut self,
        (op, path): (PatchOp, &[&str]),
        operation: &PatchOperation,
    ) -> Result<(), ControlError> {
        match (op, path) {
            (PatchOp::Remove, []) => self.throttle.clear(),
            (PatchOp::Set, []) => {
                let read = object_map(&mut serde_json::Deserializer::from_str(operation.value()?));
                self.throttle = read.map_err(|error| operation.error(&plain_message(error)))?;
            }
            (PatchOp::Set, [method @ .., member]) => {
                let key = method_key(method, operation)?;
                let throttle = method_keys::entry(&mut self.throttle, key, str::to_owned);
                throttle.set(member, operation)?;
            }
            (PatchOp::Remove, method) => {
                let key = method_key(method, operation)?;
                method_keys::remove(&mut self.throttle, &key, str::to_owned);
            }
        }
        Ok(())
    }
}

/// The key of a method's throttle: its path, with slashes as they are, and the method.
fn method_key(segments: &[&str], operation: &PatchOperation) -> Result<String, ControlError> {
    method_keys::ensure_method(segments, operation)?;
    Ok(segments.join("/"))
}

/// The path of a patch for the throttle of a method in a stage, by the names that both have.
pub(super) fn throttle_path(stage: &str, method: &str) -> String {
    let (path, method) = method.rsplit_once('/').unwrap_or_default();
    format!("/apiStages/{stage}/throttle/{}/{method}", escape_pointer(path))
}

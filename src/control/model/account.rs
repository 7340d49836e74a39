//! The account in AWS' members: what is set once for all APIs. It is kept and returned.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::ControlError;
use super::member_patch::patch_members;
use super::member_types::{MemberType, MemberTypes, Members};
use super::patch::{Patch, PatchOp};

const ACCOUNT: MemberTypes = &[("cloudwatchRoleArn", MemberType::Text)];

/// The only feature of an account. No account is without it.
const USAGE_PLANS: &str = "UsagePlans";

/// The account of all APIs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Account(Members);

impl Account {
    /// True if nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The account in AWS' responses. There is no throttle for all APIs, for which AWS writes -1.
    #[must_use]
    pub fn to_aws_json(&self) -> Value {
        let mut shown = json!(self);
        shown["features"] = json!([USAGE_PLANS]);
        shown["apiKeyVersion"] = "4".into();
        shown["throttleSettings"] = json!({ "burstLimit": -1, "rateLimit": -1.0 });
        shown
    }

    /// Applies all operations in their order.
    ///
    /// # Errors
    /// If one of them is invalid. The account may then be changed in part.
    pub fn patch(&mut self, patch: &Patch) -> Result<(), ControlError> {
        patch.operations()?.iter().try_for_each(|operation| {
            let (op, segments) = operation.op_and_path()?;
            let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
            match (op, &segments[..]) {
                (PatchOp::Set, ["features"]) if operation.value()? == USAGE_PLANS => Ok(()),
                (PatchOp::Remove, ["features"]) if operation.value()? == USAGE_PLANS => {
                    let why = "Usage Plans cannot be disabled once enabled";
                    Err(ControlError::BadRequest(why.into()))
                }
                (_, ["features"]) => Err(operation.error("the feature is UsagePlans")),
                (op, segments) => patch_members(&mut self.0, ACCOUNT, (op, segments), operation),
            }
        })
    }
}

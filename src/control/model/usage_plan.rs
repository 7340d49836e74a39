//! Usage plans in AWS' members, with Tollgate's own beside them: how they are created and patched.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api_stages::{ApiStage, throttle_path};
use super::error::ControlError;
use super::ids::new_readable_id;
use super::limit_settings::{QuotaSettings, ThrottleSettings};
use super::patch::{Patch, PatchOp, PatchOperation};
use crate::catalog::raw::{Consistency, Mode};
use crate::failure_policy::FailurePolicy;
use crate::object::{object_list, optional_object};

/// A usage plan, in the members of AWS' API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsagePlan {
    /// Made from its first name, or the value of the tag `_custom_id_`. A new name leaves it as it is.
    pub id: String,
    /// The members that a client sets.
    #[serde(flatten)]
    pub spec: PlanSpec,
}

/// The members of a plan that a request may change.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanSpec {
    pub(in crate::control) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) description: Option<String>,
    /// The stages that it serves; all if there are none, unless `serves_no_stage`.
    #[serde(default, deserialize_with = "object_list")]
    pub(in crate::control) api_stages: Vec<ApiStage>,
    /// The rate of requests.
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub(in crate::control) throttle: Option<ThrottleSettings>,
    /// The requests of a period.
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub(in crate::control) quota: Option<QuotaSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) product_code: Option<String>,
    /// Names for people, and `_custom_id_`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Beyond AWS: limits in any unit, in the catalog's form, as sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::control) limits: Vec<Value>,
    /// Beyond AWS: the decision while the store is unreachable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) on_store_failure: Option<FailurePolicy>,
    /// Beyond AWS: exact or leased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) consistency: Option<Consistency>,
    /// Beyond AWS: enforce or shadow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) mode: Option<Mode>,
    /// Beyond AWS: true if it serves no stage, although it lists none. So is a plan that has lost
    /// its last stage: its keys must not be admitted to all stages then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::control) serves_no_stage: bool,
    /// Beyond AWS: true if a key may be on it beside other plans of the same stage.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::control) alongside: bool,
}

impl UsagePlan {
    /// A new plan. An id made from its name is none that `is_taken`.
    ///
    /// # Errors
    /// If the requested id is invalid.
    pub fn new(mut spec: PlanSpec, is_taken: impl Fn(&str) -> bool) -> Result<Self, ControlError> {
        spec.serves_no_stage &= spec.api_stages.is_empty();
        Ok(Self { id: new_readable_id(&spec.tags, &spec.name, is_taken)?, spec })
    }

    /// Checks that it can be deleted.
    ///
    /// # Errors
    /// If it serves a stage, in AWS' words.
    pub fn ensure_deletable(&self) -> Result<(), ControlError> {
        match self.spec.api_stages.first() {
            None => Ok(()),
            Some(served) => Err(ControlError::BadRequest(format!(
                "Cannot delete Usage Plan {} because there are API Stages associated with it, including {}",
                self.id,
                served.patch_name()
            ))),
        }
    }

    /// No longer serves this stage of an API, or any stage of it.
    pub(super) fn drop_stages(&mut self, api: &str, stage: Option<&str>) {
        let stages = &mut self.spec.api_stages;
        let count = stages.len();
        stages.retain(|served| !served.is(api, stage));
        self.spec.serves_no_stage |= stages.is_empty() && count > 0;
    }

    /// Applies all operations in their order.
    ///
    /// # Errors
    /// If one of them is invalid. The plan may then be changed in part.
    pub fn patch(&mut self, patch: &Patch) -> Result<(), ControlError> {
        patch.operations()?.iter().try_for_each(|operation| self.apply(operation))
    }

    fn apply(&mut self, operation: &PatchOperation) -> Result<(), ControlError> {
        let (op, path) = operation.op_and_path()?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let plan = &mut self.spec;
        match (op, &path[..]) {
            (PatchOp::Set, ["name"]) => plan.name = operation.value()?.into(),
            (PatchOp::Set, ["description"]) => plan.description = Some(operation.value()?.into()),
            (PatchOp::Set, ["productCode"]) => plan.product_code = Some(operation.value()?.into()),
            (PatchOp::Remove, ["productCode"]) => plan.product_code = None,
            (PatchOp::Set, ["onStoreFailure"]) => {
                let policy = operation.parse_word("open, local and closed")?;
                plan.on_store_failure = Some(policy);
            }
            (PatchOp::Set, ["consistency"]) => {
                plan.consistency = Some(operation.parse_word("exact and leased")?);
            }
            (PatchOp::Set, ["mode"]) => {
                plan.mode = Some(operation.parse_word("enforce and shadow")?);
            }
            (PatchOp::Set, ["limits"]) => plan.limits = operation.parse_list()?,
            (PatchOp::Set, ["servesNoStage"]) => {
                plan.serves_no_stage = operation.parse_value()?;
                if plan.serves_no_stage && !plan.api_stages.is_empty() {
                    return Err(operation.error("the plan serves stages; remove them"));
                }
            }
            (PatchOp::Remove, ["servesNoStage"]) => plan.serves_no_stage = false,
            (PatchOp::Set, ["alongside"]) => plan.alongside = operation.parse_value()?,
            (PatchOp::Remove, ["alongside"]) => plan.alongside = false,
            (PatchOp::Remove, ["limits"]) => plan.limits.clear(),
            (PatchOp::Remove, ["onStoreFailure"]) => plan.on_store_failure = None,
            (PatchOp::Remove, ["consistency"]) => plan.consistency = None,
            (PatchOp::Remove, ["mode"]) => plan.mode = None,
            (PatchOp::Remove, ["throttle"]) => plan.throttle = None,
            (PatchOp::Set, ["throttle", member]) => {
                plan.throttle.get_or_insert_default().set(member, operation)?;
            }
            (PatchOp::Remove, ["quota"]) => plan.quota = None,
            (PatchOp::Set, ["quota", member]) => {
                plan.quota.get_or_insert_default().set(member, operation)?;
            }
            (op, ["apiStages"]) => self.patch_stages(op, operation)?,
            (op, ["apiStages", stage, "throttle", method @ ..]) => {
                self.stage(stage, operation)?.patch_throttle((op, method), operation)?;
            }
            _ => return Err(operation.unknown_path()),
        }
        Ok(())
    }

    fn patch_stages(
        &mut self,
        op: PatchOp,
        operation: &PatchOperation,
    ) -> Result<(), ControlError> {
        let value = operation.text().unwrap_or_default();
        let (api, stage) = value.split_once(':').ok_or_else(|| {
            let why = "Invalid API Stage specified: its name in a patch is API:STAGE";
            ControlError::BadRequest(why.into())
        })?;
        let is_served = self.spec.api_stages.iter().any(|served| served.is(api, Some(stage)));
        match op {
            PatchOp::Set if is_served => {
                return Err(ControlError::Conflict(format!("The plan already serves {value}")));
            }
            PatchOp::Set => {
                self.spec.api_stages.push(ApiStage::new(api, stage));
                self.spec.serves_no_stage = false;
            }
            PatchOp::Remove if !is_served => {
                return Err(ControlError::no_api_stage(api, stage, &self.id));
            }
            PatchOp::Remove => self.drop_stages(api, Some(stage)),
        }
        Ok(())
    }

    fn stage(
        &mut self,
        named: &str,
        operation: &PatchOperation,
    ) -> Result<&mut ApiStage, ControlError> {
        let served = self.spec.api_stages.iter_mut().find(|served| served.patch_name() == named);
        served.ok_or_else(|| operation.error(&format!("the plan does not serve {named}")))
    }

    /// The operations of a patch that removes all its stages.
    #[must_use]
    pub fn operations_without_stages(&self) -> Vec<PatchOperation> {
        let served = self.spec.api_stages.iter().map(ApiStage::patch_name);
        served.map(|name| PatchOperation::remove_value("/apiStages", name)).collect()
    }

    /// The operations of a patch that gives it the limits and stages of `desired`.
    #[must_use]
    pub fn operations_to(&self, desired: &PlanSpec) -> Vec<PatchOperation> {
        let PlanSpec { throttle, quota, limits, alongside, serves_no_stage, .. } = desired;
        let limits = Some(limits).filter(|limits| !limits.is_empty());
        let mut operations =
            vec![PatchOperation::remove("/throttle"), PatchOperation::remove("/quota")];
        operations.extend(throttle.iter().flat_map(|it| it.operations("/throttle")));
        operations.extend(quota.iter().flat_map(|it| it.operations("/quota")));
        operations.extend([
            set_or_remove("/limits", limits),
            set_or_remove("/onStoreFailure", desired.on_store_failure),
            set_or_remove("/consistency", desired.consistency),
            set_or_remove("/mode", desired.mode),
            set_or_remove("/alongside", alongside.then_some(true)),
        ]);
        operations.extend(self.operations_without_stages());
        for stage in &desired.api_stages {
            let name = stage.patch_name();
            operations.push(PatchOperation::set("/apiStages", &name));
            for (method, throttle) in &stage.throttle {
                operations.extend(throttle.operations(&throttle_path(&name, method)));
            }
        }
        operations.push(set_or_remove("/servesNoStage", serves_no_stage.then_some(true)));
        operations
    }
}

fn set_or_remove(path: &str, value: Option<impl Serialize>) -> PatchOperation {
    value.map_or_else(|| PatchOperation::remove(path), |value| PatchOperation::set(path, &value))
}

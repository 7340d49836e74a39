//! A usage plan as AWS has it, with what Tollgate adds: how it is made, patched, and declared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::ControlError;
use super::ids::new_id;
use super::limit_settings::{QuotaSettings, ThrottleSettings, to_catalog_method};
use super::patch::{Patch, PatchOp, PatchOperation};
use crate::object::{object_list, object_map, optional_object};

/// A usage plan, in the members of AWS' API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsagePlan {
    /// Ten letters and digits, or the tag `_custom_id_`.
    pub id: String,
    /// What it is made of.
    #[serde(flatten)]
    pub spec: PlanSpec,
}

/// What a client says of a plan that it wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanSpec {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, deserialize_with = "object_list")]
    api_stages: Vec<ApiStage>,
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    throttle: Option<ThrottleSettings>,
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    quota: Option<QuotaSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_code: Option<String>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Beyond AWS: limits in any unit, as the catalog file writes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    limits: Vec<Value>,
    /// Beyond AWS: what happens while the store is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_store_failure: Option<String>,
    /// Beyond AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    consistency: Option<String>,
    /// Beyond AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    /// Beyond AWS: whether a key may be on it beside other plans of the same stage.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    alongside: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ApiStage {
    api_id: String,
    stage: String,
    /// By path and method, as in `/pets/GET`.
    #[serde(default, deserialize_with = "object_map", skip_serializing_if = "BTreeMap::is_empty")]
    throttle: BTreeMap<String, ThrottleSettings>,
}

impl UsagePlan {
    /// A plan as wanted, under a new id.
    ///
    /// # Errors
    /// Where the id that is asked for cannot be one.
    pub fn new(spec: PlanSpec) -> Result<Self, ControlError> {
        Ok(Self { id: new_id(&spec.tags)?, spec })
    }

    /// Whether it names a stage of this API, or this stage.
    pub(super) fn references(&self, api: &str, stage: Option<&str>) -> bool {
        let named = |served: &ApiStage| {
            served.api_id == api && stage.is_none_or(|stage| served.stage == stage)
        };
        self.spec.api_stages.iter().any(named)
    }

    /// Makes all operations in their order.
    ///
    /// # Errors
    /// Where one of them cannot be made; the plan is then of no use.
    pub fn patch(&mut self, patch: &Patch) -> Result<(), ControlError> {
        patch.patch_operations.iter().try_for_each(|operation| self.apply(operation))
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
                plan.on_store_failure = Some(operation.value()?.into());
            }
            (PatchOp::Set, ["consistency"]) => plan.consistency = Some(operation.value()?.into()),
            (PatchOp::Set, ["mode"]) => plan.mode = Some(operation.value()?.into()),
            (PatchOp::Set, ["limits"]) => {
                let limits = serde_json::from_str(operation.value()?);
                plan.limits = limits.map_err(|_| operation.error("write a JSON array"))?;
            }
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
                let stage = self.stage(stage, operation)?;
                patch_methods(&mut stage.throttle, op, method, operation)?;
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
        let value = operation.value()?;
        let (api, stage) =
            value.split_once(':').ok_or_else(|| operation.error("write the stage as API:STAGE"))?;
        let named = self.references(api, Some(stage));
        let stages = &mut self.spec.api_stages;
        match op {
            PatchOp::Set if named => {
                return Err(ControlError::Conflict(format!("The plan already serves {value}")));
            }
            PatchOp::Set => stages.push(ApiStage {
                api_id: api.into(),
                stage: stage.into(),
                throttle: BTreeMap::new(),
            }),
            PatchOp::Remove if !named => {
                return Err(ControlError::NotFound(format!("The plan does not serve {value}")));
            }
            PatchOp::Remove => {
                stages.retain(|served| served.api_id != api || served.stage != stage);
            }
        }
        Ok(())
    }

    fn stage(
        &mut self,
        named: &str,
        operation: &PatchOperation,
    ) -> Result<&mut ApiStage, ControlError> {
        let is = |served: &&mut ApiStage| format!("{}:{}", served.api_id, served.stage) == named;
        let served = self.spec.api_stages.iter_mut().find(is);
        served.ok_or_else(|| operation.error(&format!("the plan does not serve {named}")))
    }

    /// The plan as the catalog writes it.
    ///
    /// # Errors
    /// Where it says what no catalog can.
    pub fn to_catalog_json(&self) -> Result<Value, ControlError> {
        let plan = &self.spec;
        let mut declared = Map::new();
        declared.insert("id".into(), self.id.clone().into());
        if let Some(throttle) = &plan.throttle {
            declared.insert("throttle".into(), throttle.to_catalog_json()?);
        }
        if let Some(quota) = &plan.quota {
            declared.insert("quota".into(), quota.to_catalog_json()?);
        }
        if !plan.api_stages.is_empty() {
            let stages: Result<Vec<_>, _> =
                plan.api_stages.iter().map(ApiStage::to_catalog_json).collect();
            declared.insert("api_stages".into(), stages?.into());
        }
        declared.insert("limits".into(), plan.limits.clone().into());
        if plan.alongside {
            declared.insert("alongside".into(), true.into());
        }
        let ours = [
            ("on_store_failure", &plan.on_store_failure),
            ("consistency", &plan.consistency),
            ("mode", &plan.mode),
        ];
        let given = ours.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        declared.extend(given.map(|(name, value)| (name.to_owned(), value.into())));
        Ok(declared.into())
    }
}

/// Members beyond AWS that a plan has as they are: what the catalog file calls them, and the API.
pub const PLAN_MEMBERS: [(&str, &str); 5] = [
    ("limits", "limits"),
    ("on_store_failure", "onStoreFailure"),
    ("consistency", "consistency"),
    ("mode", "mode"),
    ("alongside", "alongside"),
];

/// What `.../throttle`, `.../throttle/PATH/METHOD` and `.../throttle/PATH/METHOD/MEMBER` name.
fn patch_methods(
    methods: &mut BTreeMap<String, ThrottleSettings>,
    op: PatchOp,
    named: &[&str],
    operation: &PatchOperation,
) -> Result<(), ControlError> {
    match (op, named) {
        (PatchOp::Remove, []) => methods.clear(),
        (PatchOp::Remove, [path, method]) => {
            methods.remove(&format!("{path}/{method}"));
        }
        (PatchOp::Set, [path, method, member]) => {
            methods.entry(format!("{path}/{method}")).or_default().set(member, operation)?;
        }
        _ => return Err(operation.unknown_path()),
    }
    Ok(())
}

impl ApiStage {
    fn to_catalog_json(&self) -> Result<Value, ControlError> {
        let methods = self.throttle.iter().map(|(method, throttle)| {
            Ok((to_catalog_method(method)?, json!({ "throttle": throttle.to_catalog_json()? })))
        });
        let methods: Map<String, Value> = methods.collect::<Result<_, ControlError>>()?;
        Ok(json!({ "api": self.api_id, "stage": self.stage, "methods": methods }))
    }
}

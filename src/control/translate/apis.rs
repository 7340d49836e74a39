//! APIs and stages, in both forms, and the document of all APIs and plans.

use crate::catalog::raw::{
    RawAccess, RawApi, RawCatalog, RawMethodAccess, RawModels, RawStage, RawUnits,
};
use crate::control::model::{ControlError, DeployedMethod, Document, RestApi, Stage, StageLimits};

use super::Losses;
use super::limits::{
    limits_from_catalog, limits_to_catalog, throttle_from_catalog, throttle_to_catalog,
};
use super::methods::{stage_methods_from_catalog, stage_methods_to_catalog};
use super::plans::plan_to_catalog;

/// All APIs and plans in the catalog's form.
///
/// # Errors
/// If one of them cannot be in a catalog.
pub fn document_to_catalog(document: &Document) -> Result<RawCatalog, ControlError> {
    let apis = document.rest_apis.values().map(api_to_catalog);
    let plans = document.usage_plans.values().map(plan_to_catalog);
    Ok(RawCatalog {
        version: 1,
        // Only catalog files declare these.
        models: RawModels::new(),
        units: RawUnits::new(),
        apis: apis.collect::<Result<_, _>>()?,
        plans: plans.collect::<Result<_, _>>()?,
        keys: Vec::new(),
        policies: Vec::new(),
    })
}

fn api_to_catalog(api: &RestApi) -> Result<RawApi, ControlError> {
    let stages = api.stages.values().map(|stage| {
        let access = stage_access(api, stage);
        Ok(RawStage { access, ..stage_to_catalog(&stage.limits())? })
    });
    Ok(RawApi { id: api.id.clone(), stages: stages.collect::<Result<_, ControlError>>()? })
}

/// The keys that the methods of a stage need: those of the deployment that it serves.
fn stage_access(api: &RestApi, stage: &Stage) -> RawAccess {
    let methods = api.deployed_methods(stage.deployment()).into_iter().map(|deployed| {
        let DeployedMethod { path, method, needs_key } = deployed;
        RawMethodAccess { path: path.into(), method: method.into(), needs_key }
    });
    RawAccess { keys_from_gateway: api.has_keys_from_gateway(), methods: methods.collect() }
}

/// The limits of a stage in the catalog's form.
///
/// # Errors
/// If they cannot be in a catalog.
pub fn stage_to_catalog(stage: &StageLimits) -> Result<RawStage, ControlError> {
    Ok(RawStage {
        name: stage.stage_name.clone(),
        throttle: stage.throttle.as_ref().map(throttle_to_catalog).transpose()?,
        methods: stage_methods_to_catalog(&stage.methods)?,
        limits: limits_to_catalog(&format!("the stage {}", stage.stage_name), &stage.limits)?,
        consistency: stage.consistency,
        access: RawAccess::default(),
    })
}

/// The limits of a stage in AWS' form.
#[must_use]
pub fn stage_from_catalog(stage: &RawStage, at: &str, losses: &mut Losses) -> StageLimits {
    let throttle = stage.throttle.as_ref();
    let throttle = throttle.map(|it| throttle_from_catalog(it, &format!("{at}.throttle"), losses));
    StageLimits {
        stage_name: stage.name.clone(),
        throttle,
        methods: stage_methods_from_catalog(&stage.methods, at, losses),
        limits: limits_from_catalog(&stage.limits),
        consistency: stage.consistency,
    }
}

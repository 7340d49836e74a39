//! Usage plans, in both forms.

use crate::catalog::raw::{RawApiStage, RawPlan};
use crate::control::model::{ApiStage, ControlError, PlanSpec, UsagePlan};

use super::Losses;
use super::limits::{
    limits_from_catalog, limits_to_catalog, quota_from_catalog, quota_to_catalog,
    throttle_from_catalog, throttle_to_catalog,
};
use super::methods::{plan_methods_from_catalog, plan_methods_to_catalog};

/// A plan in the catalog's form.
///
/// # Errors
/// If it cannot be in a catalog.
pub fn plan_to_catalog(plan: &UsagePlan) -> Result<RawPlan, ControlError> {
    let UsagePlan { id, spec } = plan;
    let stages = spec.api_stages.iter().map(api_stage_to_catalog);
    let stages = stages.collect::<Result<Vec<_>, _>>()?;
    Ok(RawPlan {
        id: id.clone(),
        // AWS' empty list is all stages.
        api_stages: Some(stages).filter(|stages| spec.serves_no_stage || !stages.is_empty()),
        alongside: spec.alongside,
        throttle: spec.throttle.as_ref().map(throttle_to_catalog).transpose()?,
        quota: spec.quota.as_ref().map(quota_to_catalog).transpose()?,
        limits: limits_to_catalog(&format!("the usage plan {id}"), &spec.limits)?,
        on_store_failure: spec.on_store_failure,
        consistency: spec.consistency,
        mode: spec.mode,
    })
}

fn api_stage_to_catalog(served: &ApiStage) -> Result<RawApiStage, ControlError> {
    Ok(RawApiStage {
        api: served.api_id.clone(),
        stage: served.stage.clone(),
        methods: plan_methods_to_catalog(&served.throttle)?,
    })
}

/// A plan in AWS' form, named by its id.
#[must_use]
pub fn plan_from_catalog(plan: &RawPlan, at: &str, losses: &mut Losses) -> UsagePlan {
    let throttle = plan.throttle.as_ref();
    let throttle = throttle.map(|it| throttle_from_catalog(it, &format!("{at}.throttle"), losses));
    let quota = plan.quota.as_ref();
    let quota = quota.map(|it| quota_from_catalog(it, &format!("{at}.quota"), losses));
    let stages = plan.api_stages.iter().flatten().enumerate().map(|(place, served)| ApiStage {
        api_id: served.api.clone(),
        stage: served.stage.clone(),
        throttle: plan_methods_from_catalog(
            &served.methods,
            &format!("{at}.api_stages[{place}]"),
            losses,
        ),
    });
    let spec = PlanSpec {
        name: plan.id.clone(),
        api_stages: stages.collect(),
        throttle,
        quota,
        limits: limits_from_catalog(&plan.limits),
        on_store_failure: plan.on_store_failure,
        consistency: plan.consistency,
        mode: plan.mode,
        serves_no_stage: plan.api_stages.as_ref().is_some_and(Vec::is_empty),
        alongside: plan.alongside,
        ..PlanSpec::default()
    };
    UsagePlan { id: plan.id.clone(), spec }
}

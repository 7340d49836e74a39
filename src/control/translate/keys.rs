//! API keys with their overrides and policies, in both forms, and as checks use them.

use std::sync::Arc;

use serde_json::Value;

use crate::catalog::raw::{
    RawKey, RawLimitOverride, RawOverrides, RawPlanOverrides, RawQuotaOverride,
};
use crate::catalog::{ApiKey, FileOwned, KeyPolicies, LimitOverrides, parse_rfc3339};
use crate::control::model::{
    ControlError, CreateKey, KeyAttributes, KeyRecord, OverridesSpec, PlanOverrideSpec, QuotaSize,
};
use crate::object::Object;
use crate::syntax;

use super::Losses;
use super::limits::{throttle_override_from_catalog, throttle_override_to_catalog};

/// Overrides in the catalog's form.
///
/// # Errors
/// If they cannot be in a catalog.
pub fn overrides_to_catalog(overrides: &OverridesSpec) -> Result<RawOverrides, ControlError> {
    let plan = |(plan, sizes): (&String, &PlanOverrideSpec)| {
        Ok((plan.clone(), plan_override_to_catalog(plan, sizes)?))
    };
    overrides.0.iter().map(plan).collect()
}

fn plan_override_to_catalog(
    plan: &str,
    sizes: &PlanOverrideSpec,
) -> Result<RawPlanOverrides, ControlError> {
    let limit = |(name, size): (&String, &Value)| {
        let Object(size): Object<RawLimitOverride> = syntax::from_json(size).map_err(|why| {
            ControlError::BadRequest(format!("overrides.{plan}.limits.{name}: {why}"))
        })?;
        Ok((name.clone(), size))
    };
    Ok(RawPlanOverrides {
        throttle: sizes.throttle.as_ref().map(throttle_override_to_catalog).transpose()?,
        quota: sizes.quota.as_ref().map(|quota| RawQuotaOverride { limit: quota.limit }),
        limits: sizes.limits.iter().map(limit).collect::<Result<_, ControlError>>()?,
    })
}

/// Overrides in AWS' form.
#[must_use]
pub fn overrides_from_catalog(
    overrides: &RawOverrides,
    at: &str,
    losses: &mut Losses,
) -> OverridesSpec {
    let plans = overrides.iter().map(|(plan, sizes)| {
        let at = format!("{at}.{plan}.throttle");
        let throttle = sizes.throttle.as_ref();
        let limits = sizes.limits.iter();
        let sizes = PlanOverrideSpec {
            throttle: throttle.map(|it| throttle_override_from_catalog(it, &at, losses)),
            quota: sizes.quota.as_ref().map(|quota| QuotaSize { limit: quota.limit }),
            limits: limits.map(|(name, size)| (name.clone(), serde_json::json!(size))).collect(),
        };
        (plan.clone(), sizes)
    });
    OverridesSpec(plans.collect())
}

/// Overrides as checks use them.
///
/// # Errors
/// If they are invalid.
pub fn overrides_to_limits(overrides: &OverridesSpec) -> Result<LimitOverrides, ControlError> {
    LimitOverrides::new(overrides_to_catalog(overrides)?)
        .map_err(|faults| ControlError::BadRequest(faults.join("; ")))
}

/// Policies of a key as checks use them.
///
/// # Errors
/// If they are invalid.
pub fn policies_of_key(attributes: &KeyAttributes) -> Result<KeyPolicies, ControlError> {
    KeyPolicies::new(&attributes.policies)
        .map_err(|faults| ControlError::BadRequest(faults.join("; ")))
}

/// A key of the registry as checks use it.
///
/// # Errors
/// If the registry holds overrides or policies that are invalid.
pub fn key_to_api_key(key: &KeyRecord) -> Result<ApiKey, ControlError> {
    let attributes = &key.attributes;
    Ok(ApiKey {
        name: attributes.name.clone(),
        customer_id: attributes.customer_id.as_deref().map(Arc::from),
        enabled: attributes.enabled,
        expires_at: attributes.expires_at.as_deref().and_then(parse_rfc3339),
        plans: key.plans.iter().map(|plan| Arc::from(&**plan)).collect(),
        overrides: overrides_to_limits(&attributes.overrides)?,
        policies: policies_of_key(attributes)?,
        ..ApiKey::new(&key.id)
    })
}

/// A key of the catalog file, as the admin API shows it. Its dates are the file's, and no value is
/// kept.
#[must_use]
pub fn file_key(key: &ApiKey, owned: &FileOwned) -> KeyRecord {
    let overrides = owned.overrides.get(&*key.id);
    let end = key.expires_at.and_then(|end| i64::try_from(end.get()).ok());
    let end = end.and_then(|end| jiff::Timestamp::from_microsecond(end).ok());
    let attributes = KeyAttributes {
        name: key.name.clone(),
        enabled: key.enabled,
        customer_id: key.customer_id.as_deref().map(str::to_owned),
        expires_at: end.map(|end| end.to_string()),
        overrides: overrides
            .map(|overrides| overrides_from_catalog(overrides, "overrides", &mut Losses::new()))
            .unwrap_or_default(),
        policies: key.policies.to_raw(),
        ..KeyAttributes::default()
    };
    let plans = key.plans.iter().map(ToString::to_string).collect();
    KeyRecord::from_file(&key.id, plans, attributes, owned.changed)
}

/// The request that creates a key of a valid catalog under its own id, by its value or its digest.
#[must_use]
pub fn key_from_catalog(key: &RawKey, at: &str, losses: &mut Losses) -> CreateKey {
    let attributes = KeyAttributes {
        name: key.name.clone(),
        enabled: key.enabled,
        customer_id: key.customer_id.clone(),
        tags: [("_custom_id_".to_owned(), key.id.clone())].into(),
        expires_at: key.expires_at.clone(),
        overrides: overrides_from_catalog(&key.overrides, &format!("{at}.overrides"), losses),
        policies: key.policies.clone(),
        ..KeyAttributes::default()
    };
    let value_sha256 = key.value_sha256.as_ref().map(|digits| digits.to_ascii_lowercase());
    CreateKey { value: key.value.clone(), value_sha256, attributes }
}

/// A key on these plans in the catalog's form, with the SHA-256 of its value.
///
/// # Errors
/// If its overrides cannot be in a catalog.
pub fn key_to_catalog(
    id: &str,
    attributes: &KeyAttributes,
    value_sha256: Option<String>,
    plans: Vec<String>,
) -> Result<RawKey, ControlError> {
    Ok(RawKey {
        id: id.to_owned(),
        name: attributes.name.clone(),
        value: None,
        value_sha256,
        plans,
        enabled: attributes.enabled,
        expires_at: attributes.expires_at.clone(),
        customer_id: attributes.customer_id.clone(),
        overrides: overrides_to_catalog(&attributes.overrides)?,
        policies: attributes.policies.clone(),
    })
}

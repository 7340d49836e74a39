//! What a key has instead of its plans' sizes: as written, as valid, and as limits.
//!
//! An override changes how large a limit is, never what it counts or since when: counters keep. It is
//! checked against the plan where it is written. A plan that has changed since may have no such limit any
//! more: what does not fit it is then ignored and logged, and no check fails for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use super::limits::{check_quota_limit, warn_if_slower};
use super::raw::RawRate;
use super::validation::Report;
use super::{ApiKey, Catalog, Plan};
use crate::limit::{Algorithm, Limit, Quota, Rate, Throttle};
use crate::object::{object_map, optional_object};

/// By plan.
pub(super) type RawOverrides = BTreeMap<String, RawPlanOverrides>;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPlanOverrides {
    pub(super) throttle: Option<RawThrottleOverride>,
    pub(super) quota: Option<RawQuotaOverride>,
    /// By the limit's name.
    #[serde(default, deserialize_with = "object_map")]
    pub(super) limits: BTreeMap<String, RawLimitOverride>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimitOverride {
    #[serde(default, deserialize_with = "optional_object")]
    pub(super) throttle: Option<RawThrottleOverride>,
    #[serde(default, deserialize_with = "optional_object")]
    pub(super) quota: Option<RawQuotaOverride>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawThrottleOverride {
    #[serde(alias = "rate_limit")]
    pub(super) rate: Option<RawRate>,
    #[serde(alias = "burst_limit")]
    pub(super) burst: Option<u64>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQuotaOverride {
    pub(super) limit: u64,
}

/// A key's own sizes of its plans' limits.
#[derive(Debug, Default)]
pub struct LimitOverrides {
    by_plan: BTreeMap<Arc<str>, PlanOverrides>,
    /// The limits that they make of the catalog in which the key was last used.
    cached: ArcSwapOption<CachedLimits>,
}

/// By the limit's name without its plan's.
type PlanOverrides = BTreeMap<String, LimitOverride>;

/// What is not said stays the plan's.
#[derive(Clone, Copy, Debug)]
enum LimitOverride {
    Throttle { rate: Option<Rate>, burst: Option<u64> },
    Quota { limit: u64 },
}

#[derive(Debug)]
struct CachedLimits {
    revision: String,
    limits: HashMap<Arc<str>, Arc<[Arc<Limit>]>>,
}

impl LimitOverrides {
    /// Reads overrides that a program wrote, in the members of a catalog file.
    ///
    /// # Errors
    /// Where they say what cannot be: each fault with its place.
    pub fn from_json(declared: &serde_json::Value) -> Result<Self, Vec<String>> {
        let raw: RawOverrides = serde_path_to_error::deserialize(declared)
            .map_err(|error| vec![format!("overrides.{}: {}", error.path(), error.inner())])?;
        let mut report = Report::default();
        let overrides = Self::from_raw(raw, "overrides", &mut report);
        if report.errors.is_empty() { Ok(overrides) } else { Err(report.errors) }
    }

    pub(super) fn from_raw(raw: RawOverrides, at: &str, report: &mut Report) -> Self {
        let mut by_plan: BTreeMap<Arc<str>, PlanOverrides> = BTreeMap::new();
        for (plan, raw) in raw {
            let at = format!("{at}.{plan}");
            let plan_overrides = by_plan.entry(plan.into()).or_default();
            if let Some(throttle) = raw.throttle {
                let size = build_override(Some(throttle), None, &at, report);
                plan_overrides.extend(size.map(|size| ("throttle".into(), size)));
            }
            if let Some(quota) = raw.quota {
                let size = build_override(None, Some(quota), &at, report);
                plan_overrides.extend(size.map(|size| ("quota".into(), size)));
            }
            for (name, raw) in raw.limits {
                if matches!(&*name, "throttle" | "quota") {
                    let why = "this is the plan's own: write it beside `limits`";
                    report.error(&format!("{at}.limits.{name}"), why);
                    continue;
                }
                let at = format!("{at}.limits.{name}");
                let size = build_override(raw.throttle, raw.quota, &at, report);
                plan_overrides.extend(size.map(|size| (name, size)));
            }
        }
        Self { by_plan, cached: ArcSwapOption::empty() }
    }

    /// The plans of which it changes something.
    pub fn plans(&self) -> impl Iterator<Item = &str> {
        self.by_plan.keys().map(|plan| &**plan)
    }

    /// What does not fit the plans of a catalog, by plan: each fault with its place.
    #[must_use]
    pub fn mismatches(&self, catalog: &Catalog) -> Vec<(&str, Vec<String>)> {
        let mismatches = self.by_plan.iter().map(|(id, overrides)| {
            let mut report = Report::default();
            overridden_plan(catalog, id, overrides, "overrides", &mut report);
            (&**id, report.errors)
        });
        mismatches.filter(|(_, errors)| !errors.is_empty()).collect()
    }

    /// Finds what does not fit the plans of a catalog, and what is not quite kept there.
    pub(super) fn check_against(&self, catalog: &Catalog, at: &str, report: &mut Report) {
        for (id, overrides) in &self.by_plan {
            overridden_plan(catalog, id, overrides, at, report);
        }
    }
}

/// A plan's limits in these sizes; nothing where there is no such plan.
fn overridden_plan(
    catalog: &Catalog,
    plan: &str,
    overrides: &PlanOverrides,
    at: &str,
    report: &mut Report,
) -> Option<Arc<[Arc<Limit>]>> {
    let at = format!("{at}.{plan}");
    let Some(plan) = catalog.plans.get(plan) else {
        report.error(&at, format_args!("there is no plan `{plan}`"));
        return None;
    };
    Some(plan.apply(overrides, &at, report))
}

fn build_override(
    throttle: Option<RawThrottleOverride>,
    quota: Option<RawQuotaOverride>,
    at: &str,
    report: &mut Report,
) -> Option<LimitOverride> {
    match (throttle, quota) {
        (Some(RawThrottleOverride { rate: None, burst: None }), None) => {
            report.error(&format!("{at}.throttle"), "give it a rate, a burst, or both");
            None
        }
        (Some(RawThrottleOverride { rate, burst }), None) => {
            let rate = rate.map(|rate| rate.0.parse()).transpose();
            let fault = |error| report.error(&format!("{at}.throttle.rate"), error);
            rate.map_err(fault).ok().map(|rate| LimitOverride::Throttle { rate, burst })
        }
        (None, Some(RawQuotaOverride { limit })) => {
            check_quota_limit(limit, &format!("{at}.quota"), report);
            Some(LimitOverride::Quota { limit })
        }
        _ => {
            report.error(at, "give it a `throttle` or a `quota`, as the plan's limit has");
            None
        }
    }
}

impl ApiKey {
    /// A plan's limits in the key's own sizes; nothing where it has none. They are made once for each
    /// catalog: leases and remembered refusals end with a limit that is made anew.
    pub(super) fn own_limits(&self, catalog: &Catalog, plan: &Plan) -> Option<Arc<[Arc<Limit>]>> {
        let overrides = &self.overrides;
        if overrides.by_plan.is_empty() {
            return None;
        }
        if let Some(cached) = &*overrides.cached.load()
            && cached.revision == catalog.revision
        {
            return cached.limits.get(&plan.id).map(Arc::clone);
        }
        let mut limits = HashMap::default();
        let mut report = Report::default();
        for (id, overrides) in overrides.by_plan.iter().filter(|(id, _)| self.plans.contains(id)) {
            let resized = overridden_plan(catalog, id, overrides, "overrides", &mut report);
            limits.extend(resized.map(|resized| (Arc::clone(id), resized)));
        }
        for why in report.errors {
            tracing::warn!(key = &*self.id, why, "an override is ignored");
        }
        // Those of the file's keys were told when the file was read.
        let already_warned = catalog.keys_by_id.contains_key(&self.id);
        for why in report.warnings.into_iter().filter(|_| !already_warned) {
            tracing::warn!(key = &*self.id, why, "an override is not quite kept");
        }
        let own = limits.get(&plan.id).map(Arc::clone);
        overrides
            .cached
            .store(Some(Arc::new(CachedLimits { revision: catalog.revision.clone(), limits })));
        own
    }
}

impl Catalog {
    /// A plan's limits as they are for this key, its meters last; nothing where there is no such plan.
    #[must_use]
    pub fn plan_limits_for_key(&self, plan: &str, key: &ApiKey) -> Option<Arc<[Arc<Limit>]>> {
        let plan = self.plans.get(plan)?;
        Some(key.own_limits(self, plan).unwrap_or_else(|| Arc::clone(&plan.limits)))
    }
}

impl Plan {
    /// Its limits in other sizes; those that do not fit it are errors, and change nothing.
    fn apply(&self, overrides: &PlanOverrides, at: &str, report: &mut Report) -> Arc<[Arc<Limit>]> {
        let mut limits = self.limits.to_vec();
        for (name, size) in overrides {
            let named = |limit: &Arc<Limit>| {
                let own =
                    limit.name().strip_prefix(&*self.id).and_then(|own| own.strip_prefix('/'));
                !limit.is_meter() && own == Some(name)
            };
            let resized = match limits.iter().position(named) {
                None => Err(format!("the plan has no limit `{name}`")),
                Some(place) => {
                    let algorithm =
                        size.apply_to(limits[place].algorithm(), &throttle_at(name, at), report);
                    algorithm.map(|algorithm| (place, algorithm))
                }
            };
            match resized {
                Ok((place, algorithm)) => {
                    limits[place] = Arc::new(limits[place].resized(algorithm));
                }
                Err(why) => report.error(at, why),
            }
        }
        for place in 0..limits.len() {
            let meter = &limits[place];
            let quota = meter.reported_quota().filter(|_| meter.is_meter());
            let position =
                quota.and_then(|quota| self.limits.iter().position(|own| Arc::ptr_eq(own, quota)));
            if let Some(position) = position {
                limits[place] = Arc::new(meter.with_quota(Arc::clone(&limits[position])));
            }
        }
        limits.into()
    }
}

/// Where the throttle that is the limit `name` is written.
fn throttle_at(name: &str, at: &str) -> String {
    if name == "throttle" {
        format!("{at}.throttle")
    } else {
        format!("{at}.limits.{name}.throttle")
    }
}

impl LimitOverride {
    /// A rule in this size, of the same window.
    fn apply_to(
        self,
        algorithm: &Algorithm,
        at: &str,
        report: &mut Report,
    ) -> Result<Algorithm, String> {
        match (self, algorithm) {
            (Self::Throttle { rate, burst }, Algorithm::TokenBucket(throttle)) => {
                let rate = rate.unwrap_or_else(|| throttle.rate());
                let throttle = Throttle::new(rate, burst.unwrap_or_else(|| throttle.burst()));
                let throttle = throttle.map_err(|error| format!("throttle: {error}"))?;
                warn_if_slower(rate, &throttle, at, report);
                Ok(Algorithm::TokenBucket(throttle))
            }
            (Self::Quota { limit }, Algorithm::CalendarQuota(quota)) => {
                Ok(Algorithm::CalendarQuota(Quota { limit, calendar: Arc::clone(&quota.calendar) }))
            }
            (_, Algorithm::TokenBucket(_)) => {
                Err("the plan's limit is a throttle: give it a `throttle`".into())
            }
            (_, Algorithm::CalendarQuota(_)) => {
                Err("the plan's limit is a quota: give it a `quota`".into())
            }
        }
    }
}

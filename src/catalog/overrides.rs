//! A key's overrides: its own sizes of its plans' limits.
//!
//! An override changes the size of a limit, never what the limit counts: its counters stay. It is
//! checked against the plan when it is written. If the plan has lost the limit since, the override
//! is ignored and logged, and no check fails because of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use foldhash::HashMap;

use super::raw::RawOverrides;
use super::sizes::SizeOverride;
use super::validation::Report;
use super::{ApiKey, Catalog, Plan};
use crate::limit::Limit;

/// A key's own sizes of its plans' limits.
#[derive(Debug, Default)]
pub struct LimitOverrides {
    by_plan: BTreeMap<Arc<str>, PlanOverrides>,
    /// The limits built for the catalog in which the key was last used.
    cached: ArcSwapOption<CachedLimits>,
}

/// By the limit's name without the plan's id.
type PlanOverrides = BTreeMap<String, SizeOverride>;

#[derive(Debug)]
struct CachedLimits {
    /// The revision of the catalog.
    revision: String,
    /// All limits of each overridden plan that the key is on.
    by_plan: HashMap<Arc<str>, Arc<[Arc<Limit>]>>,
}

impl LimitOverrides {
    /// Checks overrides, except that they fit the plans of a catalog.
    ///
    /// # Errors
    /// If they are not valid: every error with its path.
    pub fn new(raw: RawOverrides) -> Result<Self, Vec<String>> {
        let mut report = Report::default();
        let overrides = Self::from_raw(raw, "overrides", &mut report);
        let (errors, _) = report.into_messages();
        if errors.is_empty() { Ok(overrides) } else { Err(errors) }
    }

    pub(super) fn from_raw(raw: RawOverrides, at: &str, report: &mut Report) -> Self {
        let mut by_plan: BTreeMap<Arc<str>, PlanOverrides> = BTreeMap::new();
        for (plan, raw) in raw {
            let at = format!("{at}.{plan}");
            let plan_overrides = by_plan.entry(plan.into()).or_default();
            if let Some(throttle) = raw.throttle {
                let size = SizeOverride::throttle(throttle, &format!("{at}.throttle"), report);
                plan_overrides.extend(size.map(|size| ("throttle".into(), size)));
            }
            if let Some(quota) = raw.quota {
                let size = SizeOverride::quota(&quota, &format!("{at}.quota"), report);
                plan_overrides.insert("quota".into(), size);
            }
            for (name, raw) in raw.limits {
                let at = format!("{at}.limits.{name}");
                if matches!(&*name, "throttle" | "quota") {
                    report.error(&at, "this is the plan's own: write it beside `limits`");
                    continue;
                }
                let size = SizeOverride::from_raw(raw, &at, report);
                plan_overrides.extend(size.map(|size| (name, size)));
            }
        }
        Self { by_plan, cached: ArcSwapOption::empty() }
    }

    /// The plans with overridden limits.
    pub fn plans(&self) -> impl Iterator<Item = &str> {
        self.by_plan.keys().map(|plan| &**plan)
    }

    /// The overrides that do not fit a catalog's plans, by plan: every error with its path.
    #[must_use]
    pub fn mismatches(&self, catalog: &Catalog) -> Vec<(&str, Vec<String>)> {
        let mismatches = self.by_plan.iter().map(|(id, overrides)| {
            let mut report = Report::default();
            overridden_plan(catalog, id, overrides, "overrides", &mut report);
            (&**id, report.into_messages().0)
        });
        mismatches.filter(|(_, errors)| !errors.is_empty()).collect()
    }

    /// Reports the overrides that do not fit the catalog's plans, or cannot be kept exactly there.
    pub(super) fn check_against(&self, catalog: &Catalog, at: &str, report: &mut Report) {
        for (id, overrides) in &self.by_plan {
            overridden_plan(catalog, id, overrides, at, report);
        }
    }
}

impl ApiKey {
    /// The limits of a plan in the key's own sizes; `None` if the key overrides none of them.
    ///
    /// They are built once for each catalog and then cached: a new `Limit` ends the leases and the
    /// cached refusals of the one before.
    pub(super) fn own_limits(&self, catalog: &Catalog, plan: &Plan) -> Option<Arc<[Arc<Limit>]>> {
        let overrides = &self.overrides;
        if overrides.by_plan.is_empty() {
            return None;
        }
        if let Some(cached) = &*overrides.cached.load()
            && cached.revision == catalog.revision
        {
            return cached.by_plan.get(&plan.id).map(Arc::clone);
        }
        let mut by_plan = HashMap::default();
        let mut report = Report::default();
        for (id, overrides) in overrides.by_plan.iter().filter(|(id, _)| self.plans.contains(id)) {
            let limits = overridden_plan(catalog, id, overrides, "overrides", &mut report);
            by_plan.extend(limits.map(|limits| (Arc::clone(id), limits)));
        }
        let (errors, warnings) = report.into_messages();
        for why in errors {
            tracing::warn!(key = &*self.id, why, "an override is ignored");
        }
        // Warnings about the keys of the file were logged when the file was read.
        let already_warned = catalog.keys_by_id.contains_key(&self.id);
        for why in warnings.into_iter().filter(|_| !already_warned) {
            tracing::warn!(key = &*self.id, why, "an override cannot be kept exactly");
        }
        let own = by_plan.get(&plan.id).map(Arc::clone);
        let cached = CachedLimits { revision: catalog.revision.clone(), by_plan };
        overrides.cached.store(Some(Arc::new(cached)));
        own
    }
}

/// The limits of a plan with the overrides applied; `None` if there is no such plan.
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
    Some(apply_to_plan(overrides, plan, &at, report))
}

/// The limits of `plan` with the overrides applied. One that does not fit is an error and changes
/// nothing.
fn apply_to_plan(
    overrides: &PlanOverrides,
    plan: &Plan,
    at: &str,
    report: &mut Report,
) -> Arc<[Arc<Limit>]> {
    let mut limits = plan.limits.to_vec();
    let own_names = plan.limits.iter().map(|limit| own_name(plan, limit));
    let places: HashMap<&str, usize> =
        own_names.zip(0..).filter_map(|(name, place)| Some((name?, place))).collect();
    for (name, size) in overrides {
        let Some(&place) = places.get(&**name) else {
            report.error(at, format_args!("the plan has no limit `{name}`"));
            continue;
        };
        match size.apply_to(limits[place].algorithm(), &throttle_path(name, at), report) {
            Ok(algorithm) => limits[place] = Arc::new(limits[place].resized(algorithm)),
            Err(why) => report.error(at, why),
        }
    }
    // A meter reports the remaining amount of a quota: of the overridden one, if there is one.
    for place in 0..limits.len() {
        let meter = &limits[place];
        let quota = meter.reported_quota().filter(|_| meter.is_meter());
        let position = quota.and_then(|quota| places.get(own_name(plan, quota)?));
        if let Some(&position) = position {
            limits[place] = Arc::new(meter.with_quota(Arc::clone(&limits[position])));
        }
    }
    limits.into()
}

/// The name of a plan's limit without the plan's id; `None` for a meter, which nothing overrides.
fn own_name<'l>(plan: &Plan, limit: &'l Limit) -> Option<&'l str> {
    let own = limit.name().strip_prefix(&*plan.id).and_then(|own| own.strip_prefix('/'));
    own.filter(|_| !limit.is_meter())
}

/// The path of the throttle in the overrides of the limit `name`.
fn throttle_path(name: &str, at: &str) -> String {
    if name == "throttle" {
        format!("{at}.throttle")
    } else {
        format!("{at}.limits.{name}.throttle")
    }
}

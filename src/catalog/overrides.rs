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

use super::findings::Findings;
use super::limits::{kept_slower, quota_limit};
use super::written::WrittenRate;
use super::{ApiKey, Catalog, Plan};
use crate::limit::{Limit, Quota, Rate, Rule, Throttle};
use crate::object::{by_name, optional};

/// By plan.
pub(super) type WrittenOverrides = BTreeMap<String, WrittenSizes>;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenSizes {
    pub(super) throttle: Option<WrittenThrottleSize>,
    pub(super) quota: Option<WrittenQuotaSize>,
    /// By the limit's name.
    #[serde(default, deserialize_with = "by_name")]
    pub(super) limits: BTreeMap<String, WrittenSize>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenSize {
    #[serde(default, deserialize_with = "optional")]
    pub(super) throttle: Option<WrittenThrottleSize>,
    #[serde(default, deserialize_with = "optional")]
    pub(super) quota: Option<WrittenQuotaSize>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenThrottleSize {
    #[serde(alias = "rate_limit")]
    pub(super) rate: Option<WrittenRate>,
    #[serde(alias = "burst_limit")]
    pub(super) burst: Option<u64>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenQuotaSize {
    pub(super) limit: u64,
}

/// A key's own sizes of its plans' limits.
#[derive(Debug, Default)]
pub struct Overrides {
    sizes: BTreeMap<Arc<str>, Sizes>,
    /// The limits that they make of the catalog in which the key was last used.
    own: ArcSwapOption<Own>,
}

/// By the limit's name without its plan's.
type Sizes = BTreeMap<String, Size>;

/// What is not said stays the plan's.
#[derive(Clone, Copy, Debug)]
enum Size {
    Throttle { rate: Option<Rate>, burst: Option<u64> },
    Quota { limit: u64 },
}

#[derive(Debug)]
struct Own {
    revision: String,
    limits: HashMap<Arc<str>, Arc<[Arc<Limit>]>>,
}

impl Overrides {
    /// Reads overrides that a program wrote, in the members of a catalog file.
    ///
    /// # Errors
    /// Where they say what cannot be: each fault with its place.
    pub fn from_json(declared: &serde_json::Value) -> Result<Self, Vec<String>> {
        let written: WrittenOverrides = serde_path_to_error::deserialize(declared)
            .map_err(|error| vec![format!("overrides.{}: {}", error.path(), error.inner())])?;
        let mut findings = Findings::default();
        let overrides = Self::read(written, "overrides", &mut findings);
        if findings.faults.is_empty() { Ok(overrides) } else { Err(findings.faults) }
    }

    pub(super) fn read(written: WrittenOverrides, at: &str, findings: &mut Findings) -> Self {
        let mut sizes: BTreeMap<Arc<str>, Sizes> = BTreeMap::new();
        for (plan, written) in written {
            let at = format!("{at}.{plan}");
            let of_plan = sizes.entry(plan.into()).or_default();
            if let Some(throttle) = written.throttle {
                let size = size(Some(throttle), None, &at, findings);
                of_plan.extend(size.map(|size| ("throttle".into(), size)));
            }
            if let Some(quota) = written.quota {
                let size = size(None, Some(quota), &at, findings);
                of_plan.extend(size.map(|size| ("quota".into(), size)));
            }
            for (name, written) in written.limits {
                if matches!(&*name, "throttle" | "quota") {
                    let why = "this is the plan's own: write it beside `limits`";
                    findings.fault(&format!("{at}.limits.{name}"), why);
                    continue;
                }
                let at = format!("{at}.limits.{name}");
                let size = size(written.throttle, written.quota, &at, findings);
                of_plan.extend(size.map(|size| (name, size)));
            }
        }
        Self { sizes, own: ArcSwapOption::empty() }
    }

    /// The plans of which it changes something.
    pub fn plans(&self) -> impl Iterator<Item = &str> {
        self.sizes.keys().map(|plan| &**plan)
    }

    /// What does not fit the plans of a catalog, by plan: each fault with its place.
    #[must_use]
    pub fn misfits(&self, catalog: &Catalog) -> Vec<(&str, Vec<String>)> {
        let misfits = self.sizes.iter().map(|(id, sizes)| {
            let mut findings = Findings::default();
            meet(catalog, id, sizes, "overrides", &mut findings);
            (&**id, findings.faults)
        });
        misfits.filter(|(_, faults)| !faults.is_empty()).collect()
    }

    /// Finds what does not fit the plans of a catalog, and what is not quite kept there.
    pub(super) fn meet(&self, catalog: &Catalog, at: &str, findings: &mut Findings) {
        for (id, sizes) in &self.sizes {
            meet(catalog, id, sizes, at, findings);
        }
    }
}

/// A plan's limits in these sizes; nothing where there is no such plan.
fn meet(
    catalog: &Catalog,
    plan: &str,
    sizes: &Sizes,
    at: &str,
    findings: &mut Findings,
) -> Option<Arc<[Arc<Limit>]>> {
    let at = format!("{at}.{plan}");
    let Some(plan) = catalog.plans.get(plan) else {
        findings.fault(&at, format_args!("there is no plan `{plan}`"));
        return None;
    };
    Some(plan.resized(sizes, &at, findings))
}

fn size(
    throttle: Option<WrittenThrottleSize>,
    quota: Option<WrittenQuotaSize>,
    at: &str,
    findings: &mut Findings,
) -> Option<Size> {
    match (throttle, quota) {
        (Some(WrittenThrottleSize { rate: None, burst: None }), None) => {
            findings.fault(&format!("{at}.throttle"), "give it a rate, a burst, or both");
            None
        }
        (Some(WrittenThrottleSize { rate, burst }), None) => {
            let rate = rate.map(|rate| rate.0.parse()).transpose();
            let fault = |error| findings.fault(&format!("{at}.throttle.rate"), error);
            rate.map_err(fault).ok().map(|rate| Size::Throttle { rate, burst })
        }
        (None, Some(WrittenQuotaSize { limit })) => {
            quota_limit(limit, &format!("{at}.quota"), findings);
            Some(Size::Quota { limit })
        }
        _ => {
            findings.fault(at, "give it a `throttle` or a `quota`, as the plan's limit has");
            None
        }
    }
}

impl ApiKey {
    /// A plan's limits in the key's own sizes; nothing where it has none. They are made once for each
    /// catalog: leases and remembered refusals end with a limit that is made anew.
    pub(super) fn own_limits(&self, catalog: &Catalog, plan: &Plan) -> Option<Arc<[Arc<Limit>]>> {
        let overrides = &self.overrides;
        if overrides.sizes.is_empty() {
            return None;
        }
        if let Some(own) = &*overrides.own.load()
            && own.revision == catalog.revision
        {
            return own.limits.get(&plan.id).map(Arc::clone);
        }
        let mut limits = HashMap::default();
        let mut findings = Findings::default();
        for (id, sizes) in overrides.sizes.iter().filter(|(id, _)| self.plans.contains(id)) {
            let resized = meet(catalog, id, sizes, "overrides", &mut findings);
            limits.extend(resized.map(|resized| (Arc::clone(id), resized)));
        }
        for why in findings.faults {
            tracing::warn!(key = &*self.id, why, "an override is ignored");
        }
        // Those of the file's keys were told when the file was read.
        let told = catalog.keys_by_id.contains_key(&self.id);
        for why in findings.warnings.into_iter().filter(|_| !told) {
            tracing::warn!(key = &*self.id, why, "an override is not quite kept");
        }
        let own = limits.get(&plan.id).map(Arc::clone);
        overrides.own.store(Some(Arc::new(Own { revision: catalog.revision.clone(), limits })));
        own
    }
}

impl Catalog {
    /// A plan's limits as they are for this key, its meters last; nothing where there is no such plan.
    #[must_use]
    pub fn limits_of(&self, plan: &str, key: &ApiKey) -> Option<Arc<[Arc<Limit>]>> {
        let plan = self.plans.get(plan)?;
        Some(key.own_limits(self, plan).unwrap_or_else(|| Arc::clone(&plan.limits)))
    }
}

impl Plan {
    /// Its limits in other sizes; those that do not fit it are faults, and change nothing.
    fn resized(&self, sizes: &Sizes, at: &str, findings: &mut Findings) -> Arc<[Arc<Limit>]> {
        let mut limits = self.limits.to_vec();
        for (name, size) in sizes {
            let named = |limit: &Arc<Limit>| {
                let own =
                    limit.name().strip_prefix(&*self.id).and_then(|own| own.strip_prefix('/'));
                !limit.is_meter() && own == Some(name)
            };
            let resized = match limits.iter().position(named) {
                None => Err(format!("the plan has no limit `{name}`")),
                Some(place) => {
                    let rule = size.of(limits[place].rule(), &place_of(name, at), findings);
                    rule.map(|rule| (place, rule))
                }
            };
            match resized {
                Ok((place, rule)) => limits[place] = Arc::new(limits[place].resized(rule)),
                Err(why) => findings.fault(at, why),
            }
        }
        for place in 0..limits.len() {
            let meter = &limits[place];
            let told = meter.told_quota().filter(|_| meter.is_meter());
            let told =
                told.and_then(|told| self.limits.iter().position(|is| Arc::ptr_eq(is, told)));
            if let Some(told) = told {
                limits[place] = Arc::new(meter.beside(Arc::clone(&limits[told])));
            }
        }
        limits.into()
    }
}

/// Where the throttle that is the limit `name` is written.
fn place_of(name: &str, at: &str) -> String {
    if name == "throttle" {
        format!("{at}.throttle")
    } else {
        format!("{at}.limits.{name}.throttle")
    }
}

impl Size {
    /// A rule in this size, of the same window.
    fn of(self, rule: &Rule, at: &str, findings: &mut Findings) -> Result<Rule, String> {
        match (self, rule) {
            (Self::Throttle { rate, burst }, Rule::Throttle(throttle)) => {
                let rate = rate.unwrap_or_else(|| throttle.rate());
                let throttle = Throttle::new(rate, burst.unwrap_or_else(|| throttle.burst()));
                let throttle = throttle.map_err(|error| format!("throttle: {error}"))?;
                kept_slower(rate, &throttle, at, findings);
                Ok(Rule::Throttle(throttle))
            }
            (Self::Quota { limit }, Rule::Quota(quota)) => {
                Ok(Rule::Quota(Quota { limit, calendar: Arc::clone(&quota.calendar) }))
            }
            (_, Rule::Throttle(_)) => {
                Err("the plan's limit is a throttle: give it a `throttle`".into())
            }
            (_, Rule::Quota(_)) => Err("the plan's limit is a quota: give it a `quota`".into()),
        }
    }
}

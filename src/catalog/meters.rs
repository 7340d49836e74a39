//! What of a plan is counted by days: requests, and every unit that the plan limits.
//!
//! A plan's quota of a day is that count itself, so that such a plan's checks cost no more for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::limit::{Algorithm, Limit, Period, Quota, Unit};

/// Has each unit's days kept: by the plan's first enforced quota of the unit if that is one of a
/// day, else by a meter. A meter's days are the quota's, else those of the plan's first quota.
pub(super) fn add_meters(plan: &str, limits: &mut Vec<Arc<Limit>>) {
    let mut units: BTreeSet<Unit> = limits.iter().map(|limit| limit.unit().clone()).collect();
    units.insert(Unit::requests());
    let zone = |limit: &Limit| quota(limit).map(|quota| quota.calendar.zone_name().to_owned());
    let plan_zone = limits.iter().find_map(|limit| zone(limit)).unwrap_or_else(|| "UTC".into());
    for unit in units {
        let enforced = |limit: &&mut Arc<Limit>| {
            limit.refuses_alone() && *limit.unit() == unit && quota(limit).is_some()
        };
        let first = limits.iter_mut().find(enforced);
        if let Some(limit) = &first
            && quota(limit).is_some_and(|quota| quota.calendar.period() == Period::Day)
        {
            first.and_then(Arc::get_mut).into_iter().for_each(|limit| limit.track_days(plan));
            continue;
        }
        let first = first.map(|limit| Arc::clone(limit));
        let zone = first.as_deref().and_then(zone).unwrap_or_else(|| plan_zone.clone());
        let meter = Limit::meter(plan, unit, &zone, first);
        let has_same_row =
            |meter: &Limit| limits.iter().any(|limit| meter.counterpart_row() == Some(limit.row()));
        let meter = meter
            .map(|meter| if has_same_row(&meter) { meter.without_counterpart() } else { meter });
        limits.extend(meter.map(Arc::new));
    }
}

fn quota(limit: &Limit) -> Option<&Quota> {
    match limit.algorithm() {
        Algorithm::CalendarQuota(quota) => Some(quota),
        Algorithm::TokenBucket(_) => None,
    }
}

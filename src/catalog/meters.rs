//! Daily usage of a plan: requests, and every unit that the plan limits.
//!
//! If the plan has a daily quota of a unit, that quota's counter is the daily usage, so checks of
//! such a plan cost nothing more. Otherwise a meter is added: a daily counter without a limit.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::algorithm::Period;
use crate::limit::{Limit, Unit};

/// Makes each unit's daily usage tracked: by the plan's first enforced quota of the unit if that is
/// a daily one, otherwise by a meter. A meter's days are those of the unit's quota, or else of the
/// plan's first quota. A quota of some models does not count all usage of its unit.
pub(super) fn add_meters(plan: &str, limits: &mut Vec<Arc<Limit>>) {
    let mut units: BTreeSet<Unit> = limits.iter().map(|limit| limit.unit().clone()).collect();
    units.insert(Unit::requests());
    let zone = |limit: &Limit| limit.calendar().map(|calendar| calendar.zone_name().to_owned());
    let plan_zone = limits.iter().find_map(|limit| zone(limit)).unwrap_or_else(|| "UTC".into());
    for unit in units {
        let enforced = |limit: &&mut Arc<Limit>| {
            let counts_all = limit.refuses_alone() && limit.counts_all_models();
            counts_all && *limit.unit() == unit && limit.calendar().is_some()
        };
        let first = limits.iter_mut().find(enforced);
        if let Some(limit) = &first
            && limit.calendar().is_some_and(|calendar| calendar.period() == Period::Day)
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

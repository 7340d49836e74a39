//! Daily usage of a plan: requests, and every unit that the plan limits.
//!
//! If the plan has a daily quota of a unit, that quota's counter is the daily usage, so checks of
//! such a plan cost nothing more. Otherwise a meter is added: a daily counter without a limit.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashSet;

use crate::algorithm::Period;
use crate::limit::{Limit, RowId, Unit};

/// Makes each unit's daily usage tracked: by the plan's first enforced quota of the unit if that is
/// a daily one, otherwise by a meter. A meter's days are those of the unit's quota, or else of the
/// plan's first quota. A quota of some models does not count all usage of its unit.
pub(super) fn add_meters(plan: &str, limits: &mut Vec<Arc<Limit>>) {
    // Each unit with the place of its first enforced quota.
    let mut units = BTreeMap::<Unit, Option<usize>>::from([(Unit::requests(), None)]);
    for (place, limit) in limits.iter().enumerate() {
        let is_quota = limit.refuses_alone() && limit.counts_all_models();
        let is_quota = is_quota && limit.calendar().is_some();
        let first = units.entry(limit.unit().clone()).or_default();
        *first = first.or_else(|| is_quota.then_some(place));
    }
    let mut rows: HashSet<RowId> = limits.iter().map(|limit| limit.row()).collect();
    let zone = |limit: &Limit| limit.calendar().map(|calendar| calendar.zone_name().to_owned());
    let plan_zone = limits.iter().find_map(|limit| zone(limit)).unwrap_or_else(|| "UTC".into());
    for (unit, first) in units {
        let first = first.and_then(|place| limits.get_mut(place));
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
            |meter: &Limit| meter.counterpart_row().is_some_and(|row| rows.contains(&row));
        let meter = meter
            .map(|meter| if has_same_row(&meter) { meter.without_counterpart() } else { meter });
        rows.extend(meter.as_ref().map(Limit::row));
        limits.extend(meter.map(Arc::new));
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::Catalog;

    /// The names of the limits that keep the days of a plan with this one.
    fn trackers(limit: &str) -> Vec<String> {
        let text = format!("version: 1\nplans: [{{ id: p, limits: [{limit}] }}]");
        let catalog = Catalog::parse(&text, "test").unwrap();
        let limits = catalog.plan_limits("p").unwrap().iter();
        let of_tokens = limits.filter(|it| it.tracks_days() && it.unit().as_str() == "tokens");
        of_tokens.map(|limit| limit.name().to_string()).collect()
    }

    #[test]
    fn a_daily_quota_of_some_models_is_not_the_daily_usage_of_all() {
        let quota = "quota: { limit: 9, period: day }";
        let all = format!("{{ name: day, unit: tokens, {quota} }}");
        let some = format!("{{ name: day, unit: tokens, models: [a], {quota} }}");
        assert_eq!(trackers(&all), ["p/day"]);
        assert_eq!(trackers(&some), ["usage:p"]);
    }
}

//! The usage of keys by day, and its corrections by operators.
//!
//! A day is one of the time zone of the plan's quota. The store keeps counts; here they become days
//! in AWS' form: the units used, and the units left of the quota when the day ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::ToSpan as _;
use jiff::civil::Date;

use super::editor::Editor;
use crate::algorithm::calendar_quota::{MAX_CORRECTED, first_day};
use crate::algorithm::{Correction, WindowStart};
use crate::catalog::ApiKey;
use crate::control::model::{ControlError, Patch, PatchOp, PatchOperation};
use crate::limit::{Charge, Limit, Subject, USAGE_RETENTION_DAYS};
use crate::store::{CounterStore, CounterUsage, StoreError};
use crate::time::{MAX_EXACT, Micros};

/// Reads and corrects usage.
pub struct UsageLedger {
    editor: Editor,
    counter_store: CounterStore,
}

/// A query for the usage of a plan's keys.
#[derive(Clone, Debug)]
pub struct UsageQuery {
    /// The plan's id.
    pub plan: String,
    /// The unit.
    pub unit: String,
    /// The first day and the last.
    pub days: (Date, Date),
}

/// The usage of a key on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedDay {
    /// The day.
    pub day: Date,
    /// Units used.
    pub used: i64,
    /// Units left of the quota when it ended, or now; `None` without a quota.
    pub remaining: Option<i64>,
}

impl UsageLedger {
    /// A ledger of the keys and plans of `editor`, with their counters in a store.
    #[must_use]
    pub fn new(editor: Editor, counter_store: CounterStore) -> Self {
        Self { editor, counter_store }
    }

    /// The days of up to `limit` keys of the plan after the one with the id `after`, by their ids;
    /// `None` for a key whose counters are damaged. Days in the future are left out.
    ///
    /// # Errors
    /// If the plan does not exist or does not count the unit, or the registry or the store is
    /// unreachable.
    pub async fn usage_page(
        &self,
        query: &UsageQuery,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Option<Vec<ReportedDay>>)>, ControlError> {
        let ids = self.key_ids_on_plan(&query.plan, after, limit).await?;
        let usages = self.usage_of_keys(query, ids).await?;
        Ok(usages.into_iter().map(|(id, days)| (id, days.ok())).collect())
    }

    /// The days of one key, which need not be on the plan any more.
    ///
    /// # Errors
    /// If the plan or the key does not exist, the plan does not count the unit, the registry or the
    /// store is unreachable, or the key's counters are damaged.
    pub async fn key_usage(
        &self,
        query: &UsageQuery,
        key: &str,
    ) -> Result<Vec<ReportedDay>, ControlError> {
        self.find_key(key).await?;
        let usages = self.usage_of_keys(query, vec![key.to_owned()]).await?;
        let days: Result<Vec<_>, _> = usages.into_iter().map(|(_, days)| days).collect();
        Ok(days?.concat())
    }

    async fn usage_of_keys(
        &self,
        query: &UsageQuery,
        ids: Vec<String>,
    ) -> Result<Vec<(String, Result<Vec<ReportedDay>, StoreError>)>, ControlError> {
        let metered = self.metering_limit(&query.plan, &query.unit)?;
        // A key's own sizes matter only for the rest of a quota.
        let keys = if metered.reported_quota().is_some() {
            self.editor.keys().load_api_keys(&ids).await?
        } else {
            vec![None; ids.len()]
        };
        let charge = |(id, key): (&String, &Option<Arc<ApiKey>>)| {
            let own = key.as_ref().and_then(|key| self.limits_for_key(&query.plan, key).ok());
            let own =
                own.and_then(|own| own.into_iter().find(|limit| meters_unit(limit, &query.unit)));
            zero_cost_charge(id, own.as_ref().unwrap_or(&metered))
        };
        let charges: Vec<Charge> = ids.iter().zip(&keys).map(charge).collect();
        let (now, usages) = self.counter_store.usage(&charges).await?;
        let days = charges.iter().zip(usages).map(|(charge, usage)| {
            usage.map(|usage| report_days(&charge.limit, &usage, now, query.days))
        });
        Ok(ids.into_iter().zip(days).collect())
    }

    /// Applies the corrections of a patch, all or none, and returns the key's usage of today.
    ///
    /// # Errors
    /// If one of them is invalid, the key is not on the plan, or the registry or the store is
    /// unreachable. In the last case the corrections may have been applied.
    pub async fn correct(
        &self,
        plan: &str,
        key: &str,
        patch: &Patch,
    ) -> Result<ReportedDay, ControlError> {
        let api_key = self.find_key(key).await?;
        let mut limits = self.limits_for_key(plan, &api_key)?;
        if !api_key.plans.iter().any(|other| **other == *plan) {
            return Err(ControlError::not_found("Usage Plan Key"));
        }
        limits.extend(self.editor.session().live.catalog().method_limits(plan).cloned());
        let mut corrections = Vec::new();
        for operation in patch.operations()? {
            corrections.extend(parse_corrections(operation, &limits)?);
        }
        let charges: Vec<Charge> =
            limits.iter().map(|limit| zero_cost_charge(key, limit)).collect();
        self.ensure_countable(&charges, &corrections).await?;
        if !corrections.is_empty() {
            // The audit entry comes first, so that no correction is without one: it is no commit of
            // the registry.
            let resource = format!("/usageplans/{plan}/keys/{key}/usage");
            self.editor.audit_log().record(resource).await?;
            self.counter_store.correct(&charges, &corrections).await?;
        }
        let requests = limits.iter().position(|limit| meters_unit(limit, "requests"));
        let requests = requests.ok_or_else(ControlError::no_usage_plan)?;
        let (now, usages) = self.counter_store.usage(&charges[requests..=requests]).await?;
        let today = (Date::MIN, Date::MAX);
        let usage = usages.into_iter().next().transpose()?;
        let days = usage.map(|usage| report_days(&limits[requests], &usage, now, today));
        days.and_then(|days| days.last().copied()).ok_or_else(ControlError::no_usage_plan)
    }

    /// Checks that the counts after the corrections are exact.
    async fn ensure_countable(
        &self,
        charges: &[Charge],
        corrections: &[(usize, Correction)],
    ) -> Result<(), ControlError> {
        let sets = |correction: &Correction| {
            matches!(correction, Correction::SetRemaining(_) | Correction::Grant(_))
        };
        if !corrections.iter().any(|(_, correction)| sets(correction)) {
            return Ok(());
        }
        let (_, usages) = self.counter_store.usage(charges).await?;
        let mut counts = BTreeMap::<usize, i64>::new();
        for (place, usage) in usages.iter().enumerate() {
            let quota = charges[place].limit.reported_quota();
            let quota =
                charges.iter().position(|it| quota.is_some_and(|q| Arc::ptr_eq(&it.limit, q)));
            let used = usage.as_ref().ok().and_then(|usage| usage.quota);
            counts.extend(quota.zip(used).map(|(quota, used)| (quota, used.used)));
        }
        for (place, correction) in corrections {
            let limit = &charges[*place].limit;
            let used = counts.entry(*place).or_default();
            *used = match correction {
                Correction::SetRemaining(left) => limit.size().cast_signed() - left.cast_signed(),
                Correction::Grant(units) => used.saturating_sub_unsigned(*units),
                Correction::Refund(_) => *used,
                Correction::Reset => 0,
            };
            if sets(correction) && used.abs() > MAX_CORRECTED {
                let why = format!(
                    "Invalid patch: at most {MAX_CORRECTED} {} can be granted, or set as used",
                    limit.unit().as_str()
                );
                return Err(ControlError::BadRequest(why));
            }
        }
        Ok(())
    }

    /// The first day of this month and today, in the days of the plan and the unit.
    ///
    /// # Errors
    /// If the plan does not exist or does not count the unit, or the store is unreachable.
    pub async fn month_so_far(&self, plan: &str, unit: &str) -> Result<(Date, Date), ControlError> {
        let metered = self.metering_limit(plan, unit)?;
        let (now, _) = self.counter_store.usage(&[]).await?;
        let today = today(&metered, now).ok_or_else(ControlError::no_usage_plan)?.date();
        Ok((today.first_of_month(), today))
    }

    /// The limit of the plan that counts the daily usage of a unit.
    fn metering_limit(&self, plan: &str, unit: &str) -> Result<Arc<Limit>, ControlError> {
        let catalog = self.editor.session().live.catalog();
        let limits = catalog.plan_limits(plan).ok_or_else(ControlError::no_usage_plan)?;
        let metered = limits.iter().find(|limit| meters_unit(limit, unit));
        metered.cloned().ok_or_else(|| {
            let units = limits.iter().filter(|limit| limit.tracks_days());
            let units: Vec<&str> = units.map(|limit| limit.unit().as_str()).collect();
            ControlError::BadRequest(format!("unit: the plan counts {}", units.join(", ")))
        })
    }

    /// The plan's limits in a key's own sizes, by this node's catalog.
    fn limits_for_key(&self, plan: &str, key: &ApiKey) -> Result<Vec<Arc<Limit>>, ControlError> {
        let limits = self.editor.session().live.catalog().plan_limits_for_key(plan, key);
        limits.map(|limits| limits.to_vec()).ok_or_else(ControlError::no_usage_plan)
    }

    /// A key of the registry or of the catalog file.
    async fn find_key(&self, id: &str) -> Result<Arc<ApiKey>, ControlError> {
        self.editor.session().sync.refresh().await?;
        let keys = self.editor.keys().load_api_keys(&[id.to_owned()]).await?;
        keys.into_iter().next().flatten().ok_or_else(|| ControlError::not_found("API Key"))
    }

    /// The ids of up to `limit` keys of a plan after `after`, of the registry and of the file.
    async fn key_ids_on_plan(
        &self,
        plan: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ControlError> {
        self.editor.session().sync.refresh().await?;
        let mut ids = self.editor.plan_keys().registry_ids(plan, after, limit).await?;
        let from_file = self.editor.session().files().keys(after, limit, |key| key.is_on(plan));
        ids.extend(from_file.into_iter().map(|key| key.id));
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(limit);
        Ok(ids)
    }
}

/// True if a limit counts the daily usage of a unit.
fn meters_unit(limit: &Limit, unit: &str) -> bool {
    limit.tracks_days() && limit.unit().as_str() == unit
}

/// A charge that reads a key's counter.
fn zero_cost_charge(key: &str, limit: &Arc<Limit>) -> Charge {
    Charge::new(Subject::api_key(key), Arc::clone(limit), 0)
}

/// The start of today in the limit's time zone.
fn today(metered: &Limit, now: Micros) -> Option<WindowStart> {
    Some(metered.calendar()?.windows(now).window_at(now)?.0)
}

/// The usage of each day from the first requested to the last, or to today.
fn report_days(
    metered: &Arc<Limit>,
    usage: &CounterUsage,
    now: Micros,
    (from, to): (Date, Date),
) -> Vec<ReportedDay> {
    let Some(today) = today(metered, now) else { return Vec::new() };
    let quota = metered.reported_quota();
    let size = quota.map(|quota| quota.size().cast_signed());
    let window_of = |day: u64| {
        let start = WindowStart::new(day * 86_400);
        quota.and_then(|quota| quota.calendar()).map(|calendar| calendar.window_containing(start))
    };
    let live = usage.quota.zip(size).map(|(live, size)| (live.window, size - live.used));
    let mut known = BTreeMap::<u64, (i64, Option<i64>)>::new();
    let oldest = first_day(today).saturating_sub(USAGE_RETENTION_DAYS);
    for day in usage.days.past.iter().filter(|day| day.day >= oldest) {
        let (used, left) = known.entry(day.day).or_default();
        (*used, *left) = (*used + day.used, day.remaining);
    }
    for count in usage.counts.iter().flatten() {
        let day = first_day(count.window);
        let (used, left) = known.entry(day).or_default();
        let same = |live: &&(WindowStart, i64)| Some(live.0) == window_of(day);
        (*used, *left) = (*used + count.used, live.as_ref().filter(same).map(|live| live.1));
    }
    if let Some((day, granted)) = usage.days.granted {
        known.entry(day).or_default().0 += granted;
    }
    let first = if from == Date::MIN { today.date() } else { from };
    let days = std::iter::successors(Some(first), |day| day.checked_add(1.day()).ok());
    days.take_while(|day| *day <= to.min(today.date()))
        .map(|day| {
            let number = first_day(WindowStart::from_date(day));
            let window = window_of(number);
            let used = known.get(&number).map_or(0, |known| known.0);
            // The rest at the end of the last recorded day, if that is of the same window.
            let mut before = known.range(..=number).rev();
            let before = before.find_map(|(day, known)| Some((*day, known.1?)));
            let before = before.filter(|(day, _)| window_of(*day) == window).map(|(_, left)| left);
            let live = live.filter(|live| Some(live.0) == window && number == first_day(today));
            let left = live.map(|live| live.1).or(before);
            let remaining = size.map(|size| left.unwrap_or(size).max(0));
            ReportedDay { day, used, remaining }
        })
        .collect()
}

/// The corrections of one operation, each with the index of its limit in `limits`.
fn parse_corrections(
    operation: &PatchOperation,
    limits: &[Arc<Limit>],
) -> Result<Vec<(usize, Correction)>, ControlError> {
    let (op, path) = operation.op_and_path()?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let (what, unit) = match (op, &path[..]) {
        (PatchOp::Set, ["reset"]) => {
            let all = (0..limits.len()).filter(|&place| !limits[place].is_meter());
            return Ok(all.map(|place| (place, Correction::Reset)).collect());
        }
        (PatchOp::Set, [what]) => (*what, "requests"),
        (PatchOp::Set, [what, unit]) => (*what, *unit),
        _ => return Err(operation.unknown_path()),
    };
    let amount = |least: u64| match operation.parse_value::<u64>() {
        Ok(amount) if (least..=MAX_EXACT).contains(&amount) => Ok(amount),
        _ => Err(operation.error("its value is a whole number below 2^53")),
    };
    let in_unit = |limit: &Limit| limit.unit().as_str() == unit && limit.calendar().is_some();
    let quota_index = || {
        let metered = limits.iter().find(|limit| meters_unit(limit, unit));
        let quota = metered.and_then(|metered| metered.reported_quota());
        let place =
            quota.and_then(|quota| limits.iter().position(|limit| Arc::ptr_eq(limit, quota)));
        place.ok_or_else(|| operation.error(&format!("the plan has no quota of {unit}")))
    };
    match what {
        "remaining" => Ok(vec![(quota_index()?, Correction::SetRemaining(amount(0)?))]),
        "grant" => Ok(vec![(quota_index()?, Correction::Grant(amount(1)?))]),
        "refund" => {
            let unused = Correction::Refund(amount(1)?);
            let all: Vec<_> = (0..limits.len()).filter(|&place| in_unit(&limits[place])).collect();
            if all.is_empty() {
                return Err(operation.error(&format!("the plan does not count {unit}")));
            }
            Ok(all.into_iter().map(|place| (place, unused)).collect())
        }
        _ => Err(operation.unknown_path()),
    }
}

//! What keys have used by day, and what operators correct of it.
//!
//! Days are those of the plan's quota's time zone. The store keeps counts; here they become days
//! as AWS tells them: what was used, and what was left of the quota when the day ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::ToSpan as _;
use jiff::civil::Date;

use super::keys::{link_path, linked_key};
use super::patch::{Op, Operation, Patch};
use super::{Editor, Error};
use crate::algorithm::days::{Correction, day_of};
use crate::catalog::ApiKey;
use crate::limit::{Calendar, Charge, KEPT_DAYS, Limit, Rule, Start, Subject};
use crate::store::{Counts, Usage};
use crate::time::{MAX_EXACT, Micros};

/// Reads and corrects what was counted.
pub struct Ledger {
    editor: Editor,
    counts: Counts,
}

/// Whose usage is wanted, and of which days.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The plan.
    pub plan: String,
    /// The unit.
    pub unit: String,
    /// The first day and the last.
    pub days: (Date, Date),
}

/// A day of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub day: Date,
    /// Units used.
    pub used: i64,
    /// Units left of the quota when it ended, or now; `None` without a quota.
    pub remaining: Option<i64>,
}

impl Ledger {
    /// Over the keys and plans that `editor` changes, and what is counted for them.
    #[must_use]
    pub fn new(editor: Editor, counts: Counts) -> Self {
        Self { editor, counts }
    }

    /// The days of up to `limit` keys of the plan after the one with the id `after`, by their ids.
    /// Days to come are left out.
    ///
    /// # Errors
    /// Where there is no such plan or unit, or the registry or the store is lost.
    pub async fn page(
        &self,
        wanted: &Wanted,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<Line>)>, Error> {
        let ids = self.ids_on(&wanted.plan, after, limit).await?;
        self.of(wanted, ids).await
    }

    /// The days of one key, which need not be on the plan any more.
    ///
    /// # Errors
    /// Where there is no such plan, unit or key, or the registry or the store is lost.
    pub async fn one(&self, wanted: &Wanted, key: &str) -> Result<Vec<Line>, Error> {
        self.client(key).await?;
        let lines = self.of(wanted, vec![key.to_owned()]).await?;
        Ok(lines.into_iter().flat_map(|(_, lines)| lines).collect())
    }

    async fn of(
        &self,
        wanted: &Wanted,
        ids: Vec<String>,
    ) -> Result<Vec<(String, Vec<Line>)>, Error> {
        let count = self.count(&wanted.plan, &wanted.unit)?;
        // Without a quota nothing is told that a key could have another size of.
        let keys = if count.told_quota().is_some() {
            self.editor.clients(&ids).await?
        } else {
            vec![None; ids.len()]
        };
        let charge = |(id, key): (&String, &Option<Arc<ApiKey>>)| {
            let own = key.as_ref().and_then(|key| self.limits(&wanted.plan, key).ok());
            let own = own.and_then(|own| own.into_iter().find(|limit| counts(limit, &wanted.unit)));
            charge(id, own.as_ref().unwrap_or(&count))
        };
        let charges: Vec<Charge> = ids.iter().zip(&keys).map(charge).collect();
        let (now, usages) = self.counts.usage(&charges).await?;
        let days = charges.iter().zip(&usages);
        let days = days.map(|(charge, usage)| lines(&charge.limit, usage, now, wanted.days));
        Ok(ids.into_iter().zip(days).collect())
    }

    /// Makes the corrections of a patch, all or none, and tells the key's day.
    ///
    /// # Errors
    /// Where one of them cannot be made, the key is not on the plan, or the registry or the store
    /// is lost. A grant may then have been made.
    pub async fn correct(&self, plan: &str, key: &str, patch: &Patch) -> Result<Line, Error> {
        let client = self.client(key).await?;
        let mut limits = self.limits(plan, &client)?;
        if !client.plans.iter().any(|other| **other == *plan) {
            return Err(Error::no("Usage Plan Key"));
        }
        limits.extend(self.editor.live.catalog().method_limits(plan).cloned());
        let mut corrections = Vec::new();
        for operation in &patch.patch_operations {
            corrections.extend(corrections_of(operation, &limits)?);
        }
        let charges: Vec<Charge> = limits.iter().map(|limit| charge(key, limit)).collect();
        if !corrections.is_empty() {
            // Noted before it is done, since it is no commit of the registry: none can be missed.
            self.editor.note(format!("/usageplans/{plan}/keys/{key}/usage")).await?;
            self.counts.correct(&charges, &corrections).await?;
        }
        let requests = limits.iter().position(|limit| counts(limit, "requests"));
        let requests = requests.ok_or_else(|| Error::no("Usage Plan"))?;
        let (now, usages) = self.counts.usage(&charges[requests..=requests]).await?;
        let today = (Date::MIN, Date::MAX);
        let lines = usages.first().map(|usage| lines(&limits[requests], usage, now, today));
        lines.and_then(|lines| lines.last().copied()).ok_or_else(|| Error::no("Usage Plan"))
    }

    /// The first day of this month and today, where the plan counts the unit.
    ///
    /// # Errors
    /// Where there is no such plan or unit, or the store is lost.
    pub async fn month_so_far(&self, plan: &str, unit: &str) -> Result<(Date, Date), Error> {
        let count = self.count(plan, unit)?;
        let (now, _) = self.counts.usage(&[]).await?;
        let today = today(&count, now).ok_or_else(|| Error::no("Usage Plan"))?.date();
        Ok((today.first_of_month(), today))
    }

    /// The limit of the plan that says how much of a unit was used on a day.
    fn count(&self, plan: &str, unit: &str) -> Result<Arc<Limit>, Error> {
        let catalog = self.editor.live.catalog();
        let limits = catalog.plan_limits(plan).ok_or_else(|| Error::no("Usage Plan"))?;
        let count = limits.iter().find(|limit| counts(limit, unit));
        count.cloned().ok_or_else(|| {
            let units = limits.iter().filter(|limit| limit.keeps_days());
            let units: Vec<&str> = units.map(|limit| limit.unit().as_str()).collect();
            Error::BadRequest(format!("unit: the plan counts {}", units.join(", ")))
        })
    }

    /// The plan's limits as they are for a key, as this node knows them now.
    fn limits(&self, plan: &str, key: &ApiKey) -> Result<Vec<Arc<Limit>>, Error> {
        let limits = self.editor.live.catalog().plan_limits_for_key(plan, key);
        limits.map(|limits| limits.to_vec()).ok_or_else(|| Error::no("Usage Plan"))
    }

    /// A key of the API or the file.
    async fn client(&self, id: &str) -> Result<Arc<ApiKey>, Error> {
        self.editor.sync.look().await?;
        let clients = self.editor.clients(&[id.to_owned()]).await?;
        clients.into_iter().next().flatten().ok_or_else(|| Error::no("API Key"))
    }

    /// The ids of up to `limit` keys of a plan after `after`, of the API and of the file.
    async fn ids_on(
        &self,
        plan: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        self.editor.sync.look().await?;
        let path = after.map(|key| link_path(plan, key));
        let links = self.editor.registry.page(&link_path(plan, ""), path.as_deref(), limit).await?;
        let mut ids: Vec<String> =
            links.iter().map(|(path, _)| linked_key(path).to_owned()).collect();
        let catalog = self.editor.live.catalog();
        let filed = catalog.keys_on_plan(plan).map(|key| &*key.id);
        ids.extend(filed.filter(|id| after.is_none_or(|after| *id > after)).map(str::to_owned));
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(limit);
        Ok(ids)
    }
}

/// Whether a limit is what says how much of a unit was used on a day.
fn counts(limit: &Limit, unit: &str) -> bool {
    limit.keeps_days() && limit.unit().as_str() == unit
}

/// A look at a key's counter.
fn charge(key: &str, limit: &Arc<Limit>) -> Charge {
    Charge { subject: Subject::api_key(key), limit: Arc::clone(limit), cost: 0 }
}

fn calendar(limit: &Limit) -> Option<&Calendar> {
    match limit.rule() {
        Rule::Quota(quota) => Some(&quota.calendar),
        Rule::Throttle(_) => None,
    }
}

/// When today began, where the limit counts.
fn today(count: &Limit, now: Micros) -> Option<Start> {
    Some(calendar(count)?.windows(now).at(now)?.0)
}

/// The days of a count from the first wanted to the last, or to today.
fn lines(count: &Arc<Limit>, usage: &Usage, now: Micros, (from, to): (Date, Date)) -> Vec<Line> {
    let Some(today) = today(count, now) else { return Vec::new() };
    let quota = count.told_quota();
    let size = quota.map(|quota| quota.size().cast_signed());
    let window_of = |day: u64| {
        let start = Start::new(day * 86_400);
        quota.and_then(|quota| calendar(quota)).map(|calendar| calendar.window_of(start))
    };
    let live = usage.quota.zip(size).map(|(live, size)| (live.window, size - live.used));
    let mut known = BTreeMap::<u64, (i64, Option<i64>)>::new();
    let oldest = day_of(today).saturating_sub(KEPT_DAYS);
    for day in usage.days.over.iter().filter(|day| day.day >= oldest) {
        let (used, left) = known.entry(day.day).or_default();
        (*used, *left) = (*used + day.used, day.left);
    }
    for count in usage.counts.iter().flatten() {
        let day = day_of(count.window);
        let (used, left) = known.entry(day).or_default();
        let same = |live: &&(Start, i64)| Some(live.0) == window_of(day);
        (*used, *left) = (*used + count.used, live.as_ref().filter(same).map(|live| live.1));
    }
    if let Some((day, granted)) = usage.days.granted {
        known.entry(day).or_default().0 += granted;
    }
    let first = if from == Date::MIN { today.date() } else { from };
    let days = std::iter::successors(Some(first), |day| day.checked_add(1.day()).ok());
    days.take_while(|day| *day <= to.min(today.date()))
        .map(|day| {
            let number = day_of(Start::on(day));
            let window = window_of(number);
            let used = known.get(&number).map_or(0, |known| known.0);
            // What was left at the end of the last day before that is known, of the same window.
            let mut before = known.range(..=number).rev();
            let before = before.find_map(|(day, known)| Some((*day, known.1?)));
            let before = before.filter(|(day, _)| window_of(*day) == window).map(|(_, left)| left);
            let live = live.filter(|live| Some(live.0) == window && number == day_of(today));
            let left = live.map(|live| live.1).or(before);
            let remaining = size.map(|size| left.unwrap_or(size).max(0));
            Line { day, used, remaining }
        })
        .collect()
}

/// What one operation corrects, each by its place among a plan's limits.
fn corrections_of(
    operation: &Operation,
    limits: &[Arc<Limit>],
) -> Result<Vec<(usize, Correction)>, Error> {
    let (op, path) = operation.read()?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let (what, unit) = match (op, &path[..]) {
        (Op::Set, ["reset"]) => {
            let all = (0..limits.len()).filter(|&place| !limits[place].is_meter());
            return Ok(all.map(|place| (place, Correction::Afresh)).collect());
        }
        (Op::Set, [what]) => (*what, "requests"),
        (Op::Set, [what, unit]) => (*what, *unit),
        _ => return Err(operation.unknown()),
    };
    let amount = |least: u64| match operation.parsed::<u64>() {
        Ok(amount) if (least..=MAX_EXACT).contains(&amount) => Ok(amount),
        _ => Err(operation.refuse("its value is a whole number below 2^53")),
    };
    let in_unit =
        |limit: &Limit| limit.unit().as_str() == unit && matches!(limit.rule(), Rule::Quota(_));
    let told = || {
        let count = limits.iter().find(|limit| counts(limit, unit));
        let told = count.and_then(|count| count.told_quota());
        let place = told.and_then(|told| limits.iter().position(|limit| Arc::ptr_eq(limit, told)));
        place.ok_or_else(|| operation.refuse(&format!("the plan has no quota of {unit}")))
    };
    match what {
        "remaining" => Ok(vec![(told()?, Correction::Left(amount(0)?))]),
        "grant" => Ok(vec![(told()?, Correction::More(amount(1)?))]),
        "refund" => {
            let unused = Correction::Unused(amount(1)?);
            let all: Vec<_> = (0..limits.len()).filter(|&place| in_unit(&limits[place])).collect();
            if all.is_empty() {
                return Err(operation.refuse(&format!("the plan does not count {unit}")));
            }
            Ok(all.into_iter().map(|place| (place, unused)).collect())
        }
        _ => Err(operation.unknown()),
    }
}

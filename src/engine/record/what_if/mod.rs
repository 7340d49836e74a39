//! Recorded traffic judged by another catalog, by the reference implementation, in recorded time.
//!
//! Counters begin with the level that the record shows for them, if the new catalog has the same
//! limit. A check that was refused as recorded has no settlement: if it would open a reservation, it
//! counts as its estimate. Rates of new keys and shares of a lost store are a node's own, and not
//! judged. Reading files and printing are the caller's.

mod merged_lines;
mod report;

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::line::{RecordedAdjustment, RecordedCharge, RecordedReservation};
use super::request::RecordedRequest;
use crate::algorithm::{CounterState, Counting as _, WindowStart};
use crate::catalog::{ApiKey, Catalog, CheckError, CheckRequest};
use crate::engine::decision::{DecidedBy, Decision};
use crate::engine::slots;
use crate::judge::reservation::{self, Adjusted, Reserved};
use crate::judge::{self, NotJudged, OfferedWindows, RowTable, Rows as _, Verdict, usage};
use crate::limit::{
    Adjustment, AdjustmentKind, Charge, ChargeAdjustment, Charges, CounterId, Limit, MAX_CHARGES,
    NewReservation, ReservationName, Subject,
};
use crate::time::Micros;
pub use merged_lines::{MergedLines, RecordSource};
use report::RefusedKey;
pub use report::{RefusalRow, Unplaced, UnplacedChecks, WhatIfReport};

/// API keys by their ids, in addition to those of a catalog file.
pub type WhatIfKeys = HashMap<Box<str>, Arc<ApiKey>>;

/// Judges recorded checks by a catalog, one after the other.
pub struct WhatIf<'c> {
    catalog: &'c Catalog,
    keys: WhatIfKeys,
    rows: RowTable,
    /// Counters that have begun.
    begun: HashSet<CounterId>,
    /// The charges of reservations that are open under the catalog.
    open: HashMap<ReservationName, Vec<(Subject, Arc<Limit>)>>,
    labels: HashSet<Arc<str>>,
    report: WhatIfReport,
}

/// The members of a line that are read here.
#[derive(Deserialize)]
struct Line<'l> {
    now_us: u64,
    #[serde(default)]
    allowed: Option<bool>,
    #[serde(default)]
    refused_by: Option<Box<str>>,
    #[serde(default)]
    request: Option<RecordedRequest>,
    #[serde(default)]
    reserves: Option<RecordedReservation>,
    #[serde(default)]
    lost: Option<u64>,
    #[serde(borrow, default)]
    charges: Option<&'l RawValue>,
    #[serde(borrow, default)]
    readings: Option<&'l RawValue>,
    #[serde(borrow, default)]
    adjusts: Option<&'l RawValue>,
}

/// The reason why a check is not judged, and an example of it.
type NotPlaced = (Unplaced, String);

/// The ids of the API keys of recorded checks, each once, at most `max`.
#[must_use]
pub fn key_ids<'l>(lines: impl Iterator<Item = &'l str>, max: usize) -> BTreeSet<Box<str>> {
    #[derive(Deserialize)]
    struct KeyLine {
        #[serde(default)]
        request: Option<RecordedRequest>,
    }
    let mut ids = BTreeSet::new();
    for line in lines {
        let line: Result<KeyLine, _> = serde_json::from_str(line);
        let id = line.ok().and_then(|line| line.request?.key_id);
        ids.extend(id.filter(|_| ids.len() < max));
    }
    ids
}

impl<'c> WhatIf<'c> {
    /// Judges by `catalog`, whose own keys come before `keys`.
    #[must_use]
    pub fn new(catalog: &'c Catalog, keys: WhatIfKeys) -> Self {
        Self {
            catalog,
            keys,
            rows: RowTable::default(),
            begun: HashSet::default(),
            open: HashMap::default(),
            labels: HashSet::default(),
            report: WhatIfReport::default(),
        }
    }

    /// Judges the check of the next line in the store's order.
    pub fn judge_line(&mut self, text: &str) {
        let Ok(line) = serde_json::from_str::<Line<'_>>(text) else {
            self.report.add_unreadable(1);
            return;
        };
        let now = Micros::new(line.now_us);
        match (&line.adjusts, line.lost, line.allowed) {
            (Some(_), ..) => match serde_json::from_str(text) {
                Ok(adjustment) => self.adjust(&adjustment, now),
                Err(_) => self.report.add_unreadable(1),
            },
            (None, Some(lost), _) => self.report.lost += lost,
            (None, None, Some(allowed)) => {
                if let Err((reason, example)) = self.judge(&line, allowed, now) {
                    // Later it would begin with what this check has charged.
                    self.begin_counters(&line, now);
                    self.report.add_unplaced(reason, &example);
                }
            }
            (None, None, None) => self.report.add_unreadable(1),
        }
    }

    /// The result.
    #[must_use]
    pub fn into_report(self) -> WhatIfReport {
        self.report
    }

    fn judge(&mut self, line: &Line<'_>, allowed: bool, now: Micros) -> Result<(), NotPlaced> {
        let Some(recorded) = &line.request else {
            return Err((Unplaced::NoRequest, String::new()));
        };
        let request = recorded.to_check_request();
        let (key, mut charges) = self.resolve(recorded, &request, now)?;
        let new = self.take_slots(line, &request, &mut charges)?;
        let refusing = self.refusing_limit(line, &charges, new.as_ref(), now);
        let after = refusing.map(|label| (refused_key(&label, recorded, key.as_deref()), label));
        if recorded.after_the_fact {
            // A report is of units that have been used: it is never refused.
            self.report.add_judged(now, None, None);
            return Ok(());
        }
        let before = (!allowed).then(|| {
            let label = self.intern(line.refused_by.as_deref().unwrap_or("(without a limit)"));
            (refused_key(&label, recorded, key.as_deref()), label)
        });
        self.report.add_judged(now, before, after);
        Ok(())
    }

    /// The charges of a request, without meters, which refuse nothing.
    fn resolve(
        &self,
        recorded: &RecordedRequest,
        request: &CheckRequest<'_>,
        now: Micros,
    ) -> Result<(Option<Arc<ApiKey>>, Charges), NotPlaced> {
        let key = match recorded.key_id.as_deref() {
            None => None,
            Some(id) => match self.catalog.key_by_id(id).or_else(|| self.keys.get(id)) {
                Some(key) => Some(Arc::clone(key)),
                None if self.catalog.needs_no_key(request) => None,
                None => return Err((Unplaced::UnknownKey, id.into())),
            },
        };
        let resolved = self.catalog.resolve(request, key.as_ref(), now);
        let mut charges = resolved.map_err(|why| not_placed(recorded, why))?.charges;
        if charges.len() > MAX_CHARGES {
            let why = format!("the check has {} limits", charges.len());
            return Err((Unplaced::Invalid, why));
        }
        charges.retain(|charge| !charge.limit.is_meter());
        Ok((key, charges))
    }

    /// The reservation that a check opens. The costs and slots of its charges follow.
    fn take_slots(
        &self,
        line: &Line<'_>,
        request: &CheckRequest<'_>,
        charges: &mut Charges,
    ) -> Result<Option<NewReservation>, NotPlaced> {
        let invalid = |why: CheckError| (Unplaced::Invalid, describe(&why));
        let Some(new) = line.reserves.as_ref().and_then(RecordedReservation::to_new) else {
            slots::only_read(charges).map_err(invalid)?;
            return Ok(None);
        };
        self.catalog.reserve_costs(request, charges).map_err(invalid)?;
        let ttl = slots::take(charges, Some(new.ttl));
        Ok(Some(NewReservation { ttl, ..new }))
    }

    /// Judges charges, and makes those that are allowed. Returns the label of the limit that
    /// refuses.
    fn refusing_limit(
        &mut self,
        line: &Line<'_>,
        charges: &Charges,
        new: Option<&NewReservation>,
        now: Micros,
    ) -> Option<Arc<str>> {
        let is_too_large = |charge: &&Charge| {
            charge.exceeds_capacity() && !charge.limit.shadow() && !charge.is_forced()
        };
        if let Some(charge) = charges.iter().find(is_too_large) {
            return Some(Arc::clone(charge.limit.label()));
        }
        if charges.iter().any(|charge| !self.begun.contains(&charge.counter())) {
            self.begin_counters(line, now);
            self.begun.extend(charges.iter().map(Charge::counter));
        }
        let offered = judge::offered_windows(charges, now);
        let verdict = self.judge_charges(charges, &offered, new, now)?;
        if verdict.allowed {
            if let Some(new) = new {
                let reserved = charges.iter();
                let reserved = reserved.map(|charge| (charge.subject, Arc::clone(&charge.limit)));
                self.open.insert(new.name, reserved.collect());
            }
            return None;
        }
        let decision = Decision::from_verdict(charges, &verdict, DecidedBy::Memory);
        decision.violated_limit().map(|limit| Arc::clone(limit.label()))
    }

    /// The verdict of the reference; `None` if nothing was to be judged.
    fn judge_charges(
        &mut self,
        charges: &Charges,
        offered: &OfferedWindows,
        new: Option<&NewReservation>,
        now: Micros,
    ) -> Option<Verdict> {
        // A second attempt follows when days have been kept.
        for _ in 0..2 {
            let judged = match new {
                None => judge::judge(charges, offered, now, &mut self.rows),
                Some(new) => {
                    match reservation::reserve(charges, offered, new, now, &mut self.rows) {
                        Ok(Reserved::Judged(verdict)) => Ok(verdict),
                        // Nothing is charged a second time.
                        Ok(Reserved::Replayed(..) | Reserved::Conflict) => return None,
                        Err(why) => Err(why),
                    }
                }
            };
            match judged {
                Ok(verdict) => return Some(verdict),
                Err(NotJudged::DayRollover) => {
                    for (charge, windows) in charges.iter().zip(offered) {
                        if charge.limit.tracks_days() {
                            let rows = &mut self.rows;
                            usage::close_day(charge, windows.as_ref(), now, rows).ok()?;
                        }
                    }
                }
                Err(NotJudged::WindowMiss | NotJudged::NewSubject(_)) => return None,
            }
        }
        None
    }

    /// Adjusts a reservation that is open under the catalog by the units that were recorded.
    fn adjust(&mut self, recorded: &RecordedAdjustment, now: Micros) {
        let Some((name, terms)) = recorded.adjusts.name_and_terms() else { return };
        let Some(open) = self.open.get(&name) else { return };
        let charges = open.iter().map(|(subject, limit)| ChargeAdjustment {
            subject: *subject,
            limit: Some(Arc::clone(limit)),
            units: recorded.units_of(limit.unit()),
        });
        let kind = recorded.kind();
        let adjustment = Adjustment { name, terms, kind, charges: charges.collect() };
        let windows = open.iter().map(|(_, limit)| limit.calendar().map(|it| it.windows(now)));
        let windows: OfferedWindows = windows.collect();
        let adjusted = reservation::adjust(&adjustment, &windows, now, &mut self.rows);
        if kind == AdjustmentKind::Close || matches!(adjusted, Ok(Adjusted::Unknown)) {
            self.open.remove(&name);
        }
    }

    /// Gives counters that occur for the first time the level that they had in the record.
    fn begin_counters(&mut self, line: &Line<'_>, now: Micros) {
        let Some((charges, readings)) = line.charges.zip(line.readings) else { return };
        let charges: Result<Vec<RecordedCharge>, _> = serde_json::from_str(charges.get());
        let readings: Result<Vec<(i64, u64)>, _> = serde_json::from_str(readings.get());
        let (Ok(charges), Ok(readings)) = (charges, readings) else { return };
        for (recorded, (level, window)) in charges.iter().zip(readings) {
            let Some(charge) = recorded.to_own_charge() else { continue };
            // Meters refuse nothing, and the slots behind a level are not recorded.
            let algorithm = charge.limit.algorithm();
            if charge.limit.is_meter() || algorithm.slot_ttl().is_some() {
                continue;
            }
            if self.begun.insert(charge.counter()) && level != 0 {
                let windows = charge.limit.calendar().map(|calendar| calendar.windows(now));
                let state = CounterState::in_window(level, WindowStart::new(window));
                let (row, until) = algorithm.write(None, state, windows.as_ref(), now);
                self.rows.write(&charge, row, until);
            }
        }
    }

    fn intern(&mut self, label: &str) -> Arc<str> {
        if let Some(known) = self.labels.get(label) {
            return Arc::clone(known);
        }
        let label = Arc::<str>::from(label);
        self.labels.insert(Arc::clone(&label));
        label
    }
}

/// The key whose check a limit refuses; `label` is the limit's.
fn refused_key(label: &str, request: &RecordedRequest, key: Option<&ApiKey>) -> RefusedKey {
    let policy = label.strip_prefix("policy:").and_then(|rest| rest.split('/').next());
    let named = policy.and_then(|policy| {
        let named = request.policies.iter().find(|entry| *entry.policy == *policy);
        let own = || key.and_then(|key| key.policies.key_of(policy));
        named.map(|entry| &*entry.key).or_else(own)
    });
    match (named, &request.key_id) {
        (Some(key), _) => RefusedKey::Policy(key.into()),
        (None, Some(id)) => RefusedKey::KeyId(id.clone()),
        (None, None) => RefusedKey::Nobody,
    }
}

fn not_placed(request: &RecordedRequest, why: CheckError) -> NotPlaced {
    let key = request.key_id.as_deref().unwrap_or_default();
    match why {
        CheckError::Forbidden { .. } => (Unplaced::Forbidden, key.into()),
        why => (Unplaced::Invalid, describe(&why)),
    }
}

fn describe(why: &CheckError) -> String {
    match why {
        CheckError::Invalid { field, detail } => format!("{field}: {detail}"),
        other => format!("{other:?}"),
    }
}

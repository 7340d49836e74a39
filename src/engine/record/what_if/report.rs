//! The report of a what-if: refusals before and after, by key and limit, and the checks that could
//! not be judged.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;
use serde::Serialize;

use crate::time::Micros;

/// The most examples of checks that could not be judged, for each reason.
const MAX_EXAMPLES: usize = 3;

/// The result of judging recorded traffic by another catalog.
#[derive(Clone, Debug, Default)]
pub struct WhatIfReport {
    /// Checks that were judged.
    pub decisions: u64,
    /// The time of the first and the last of them.
    pub period: Option<(Micros, Micros)>,
    /// Checks that were refused as recorded.
    pub refused_before: u64,
    /// Checks that the other catalog refuses.
    pub refused_after: u64,
    /// Checks that were allowed, and that the other catalog refuses.
    pub newly_refused: u64,
    /// Checks that were refused, and that the other catalog allows.
    pub newly_allowed: u64,
    /// Checks that could not be judged, by reason. They are in no other number.
    pub unplaced: BTreeMap<Unplaced, UnplacedChecks>,
    /// Decisions that the record itself says are missing.
    pub lost: u64,
    pub(super) rows: HashMap<(RefusedKey, Arc<str>), [u64; 2]>,
}

/// The reason why a recorded check cannot be judged by another catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unplaced {
    /// The line has no request: it is of an older release, of Envoy's descriptors, or was recorded
    /// without requests.
    NoRequest,
    /// The catalog does not have the API key.
    UnknownKey,
    /// The API key may not be used: it is disabled or has expired, or has no plan for the stage.
    Forbidden,
    /// The request is invalid in the catalog: it names an API, a stage, a policy or a unit that is
    /// gone.
    Invalid,
    /// The line is no line of a record, or was cut.
    Unreadable,
}

impl Unplaced {
    /// The reason in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRequest => {
                "no request in the line (an older record, one of Envoy's, or record_requests = false)"
            }
            Self::UnknownKey => "the catalog has no such API key",
            Self::Forbidden => "the API key may not be used (403)",
            Self::Invalid => "the request is invalid in the catalog (400)",
            Self::Unreadable => "no line of a record, or cut",
        }
    }
}

/// Checks that could not be judged for the same reason.
#[derive(Clone, Debug, Default, Serialize)]
pub struct UnplacedChecks {
    /// Their number.
    pub count: u64,
    /// A few of them: the ids of keys, or what is invalid.
    pub examples: Vec<String>,
}

/// The key of a check that is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum RefusedKey {
    /// The id of an API key.
    KeyId(Box<str>),
    /// The key that a policy counts.
    Policy(Box<str>),
    /// None: the limit is shared by all clients of a stage.
    Nobody,
}

/// The refusals of one key by one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalRow {
    /// The limit, as in metrics: `basic/throttle`, `policy:login/throttle`.
    pub limit: Box<str>,
    /// The id of the API key, if the limit counts one.
    pub key_id: Option<Box<str>>,
    /// The key that a policy counts, if the limit is a policy's.
    pub key: Option<Box<str>>,
    /// Checks that were refused as recorded.
    pub before: u64,
    /// Checks that the other catalog refuses.
    pub after: u64,
}

impl RefusalRow {
    fn change(&self) -> u64 {
        self.before.abs_diff(self.after)
    }
}

impl WhatIfReport {
    /// The refusals by key and limit: the largest change first, then the most refusals.
    #[must_use]
    pub fn rows(&self) -> Vec<RefusalRow> {
        let row = |((key, limit), [before, after]): (&(RefusedKey, Arc<str>), &[u64; 2])| {
            let (key_id, key) = match key {
                RefusedKey::KeyId(id) => (Some(id.clone()), None),
                RefusedKey::Policy(key) => (None, Some(key.clone())),
                RefusedKey::Nobody => (None, None),
            };
            RefusalRow { limit: (**limit).into(), key_id, key, before: *before, after: *after }
        };
        let mut rows: Vec<RefusalRow> = self.rows.iter().map(row).collect();
        rows.sort_by(|one, other| {
            let size = |row: &RefusalRow| (row.change(), row.before.max(row.after));
            let name = |row: &RefusalRow| (row.key_id.clone(), row.key.clone(), row.limit.clone());
            size(other).cmp(&size(one)).then_with(|| name(one).cmp(&name(other)))
        });
        rows
    }

    /// The checks that could not be judged, in all.
    #[must_use]
    pub fn unplaced_count(&self) -> u64 {
        self.unplaced.values().map(|checks| checks.count).sum()
    }

    /// Counts `count` lines that were no lines of a record.
    pub fn add_unreadable(&mut self, count: u64) {
        if count > 0 {
            self.unplaced.entry(Unplaced::Unreadable).or_default().count += count;
        }
    }

    pub(super) fn add_unplaced(&mut self, reason: Unplaced, example: &str) {
        let checks = self.unplaced.entry(reason).or_default();
        checks.count += 1;
        let is_new = !checks.examples.iter().any(|other| other == example);
        if checks.examples.len() < MAX_EXAMPLES && is_new && !example.is_empty() {
            checks.examples.push(example.into());
        }
    }

    /// Counts a check that was judged. A refusal is the key and the limit that refuses it.
    pub(super) fn add_judged(
        &mut self,
        now: Micros,
        before: Option<(RefusedKey, Arc<str>)>,
        after: Option<(RefusedKey, Arc<str>)>,
    ) {
        self.decisions += 1;
        let (first, last) = self.period.unwrap_or((now, now));
        self.period = Some((first.min(now), last.max(now)));
        self.newly_refused += u64::from(before.is_none() && after.is_some());
        self.newly_allowed += u64::from(before.is_some() && after.is_none());
        self.refused_before += u64::from(before.is_some());
        self.refused_after += u64::from(after.is_some());
        for (column, refusal) in [before, after].into_iter().enumerate() {
            let Some(refusal) = refusal else { continue };
            self.rows.entry(refusal).or_default()[column] += 1;
        }
    }
}

//! A written record of every decision, and its replay through the reference.
//!
//! One JSON object per line, in the order in which this node learnt of the decisions; `now_us` and
//! `index` give the store's order over all nodes. Decisions made without the store are not in it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write as _};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use jiff::civil::Weekday;
use serde::{Deserialize, Serialize};

use super::observer::{DecidedCheck, DecisionObserver};
use crate::algorithm::{self, Row, Rows};
use crate::limit::{
    Algorithm, Calendar, Charge, Charges, Limit, Period, Quota, Rate, Subject, Throttle, Unit,
};
use crate::store::StoreVerdict;
use crate::time::Micros;

/// One decision of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedDecision {
    /// The store's clock, in microseconds since 1970.
    pub now_us: u64,
    /// The place among the decisions made at that moment.
    pub index: u64,
    /// What was judged, in order.
    pub charges: Vec<RecordedCharge>,
    /// Whether all had room.
    pub allowed: bool,
    /// For each charge what its counter held before, and the name of its window.
    pub readings: Vec<(i64, u64)>,
}

/// One charge of a recorded decision; the subject is its Redis key, a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCharge {
    subject: String,
    limit: String,
    unit: String,
    cost: u64,
    shadow: bool,
    #[serde(default)]
    alternative: bool,
    /// The plan, where it is that plan's meter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    meter_of: Option<String>,
    #[serde(flatten)]
    algorithm: RecordedAlgorithm,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RecordedAlgorithm {
    /// `drain` of `1/per` units per microsecond.
    Throttle { burst: u64, drain: u64, per: u64 },
    /// `starts_on`: the weekday (1 is Monday) or the day of the month; of a window in seconds how
    /// many they are.
    Quota { limit: u64, period: RecordedPeriod, starts_on: u32, time_zone: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RecordedPeriod {
    Seconds,
    Day,
    Week,
    Month,
}

impl RecordedDecision {
    fn new(charges: &Charges, answer: &StoreVerdict) -> Self {
        let verdict = &answer.verdict;
        Self {
            now_us: verdict.now.get(),
            index: answer.index,
            charges: charges.iter().map(RecordedCharge::new).collect(),
            allowed: verdict.allowed,
            readings: verdict.states.iter().map(|read| (read.level, read.window.get())).collect(),
        }
    }
}

impl RecordedCharge {
    fn new(charge: &Charge) -> Self {
        let algorithm = match charge.limit.algorithm() {
            Algorithm::TokenBucket(throttle) => RecordedAlgorithm::Throttle {
                burst: throttle.burst(),
                drain: throttle.drain(),
                per: throttle.per(),
            },
            Algorithm::CalendarQuota(quota) => {
                let (period, starts_on) = match quota.calendar.period() {
                    Period::Seconds(seconds) => (RecordedPeriod::Seconds, seconds.get()),
                    Period::Day => (RecordedPeriod::Day, 0),
                    Period::Week(start) => (
                        RecordedPeriod::Week,
                        u32::from(start.to_monday_one_offset().unsigned_abs()),
                    ),
                    Period::Month(start) => {
                        (RecordedPeriod::Month, u32::from(start.unsigned_abs()))
                    }
                };
                let time_zone = quota.calendar.zone_name().to_owned();
                RecordedAlgorithm::Quota { limit: quota.limit, period, starts_on, time_zone }
            }
        };
        Self {
            subject: charge.subject.redis_key(),
            limit: charge.limit.label().to_string(),
            unit: charge.limit.unit().to_string(),
            cost: charge.cost,
            shadow: charge.limit.shadow(),
            alternative: charge.limit.alternative(),
            meter_of: charge.limit.metered_plan().map(str::to_owned),
            algorithm,
        }
    }

    /// The charge again. Its subject is another one, but as different from all others as before.
    fn to_charge(&self) -> Option<Charge> {
        let algorithm = match &self.algorithm {
            RecordedAlgorithm::Throttle { burst, drain, per } => Algorithm::TokenBucket(
                Throttle::new(Rate::new(*drain, Micros::new(*per))?, *burst).ok()?,
            ),
            RecordedAlgorithm::Quota { limit, period, starts_on, time_zone } => {
                let day = i8::try_from(*starts_on);
                let period = match period {
                    RecordedPeriod::Seconds => Period::Seconds(NonZeroU32::new(*starts_on)?),
                    RecordedPeriod::Day => Period::Day,
                    RecordedPeriod::Week => {
                        Period::Week(Weekday::from_monday_one_offset(day.ok()?).ok()?)
                    }
                    RecordedPeriod::Month => Period::Month(day.ok()?),
                };
                let calendar = Arc::new(Calendar::new(period, time_zone)?);
                Algorithm::CalendarQuota(Quota { limit: *limit, calendar })
            }
        };
        let unit = Unit::new(&self.unit);
        let limit = match (&self.meter_of, &algorithm) {
            (Some(plan), Algorithm::CalendarQuota(quota)) => {
                Limit::meter(plan, unit, quota.calendar.zone_name(), None)?.without_days()
            }
            _ => Limit::new(&self.limit, unit, algorithm, self.shadow),
        };
        let limit = Arc::new(if self.alternative { limit.as_alternative() } else { limit });
        Some(Charge { subject: Subject::policy("replay", &self.subject), limit, cost: self.cost })
    }
}

/// Writes decisions to a file, in a thread of its own.
///
/// Nothing is dropped: where the disk is slower than the checks, the checks wait.
pub struct Recorder(mpsc::SyncSender<(Charges, StoreVerdict)>);

impl Recorder {
    /// Appends to `path`. The thread ends when the recorder is dropped.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<(Self, JoinHandle<()>)> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (sender, decisions) = mpsc::sync_channel(1 << 16);
        let thread = std::thread::Builder::new()
            .name("record".into())
            .spawn(move || write_decisions(BufWriter::new(file), &decisions))?;
        Ok((Self(sender), thread))
    }
}

impl DecisionObserver for Recorder {
    fn on_decision(&self, check: &DecidedCheck<'_>) {
        if let Some(verdict) = check.verdict {
            let _writer_failed = self.0.send((check.charges.clone(), verdict.clone()));
        }
    }
}

fn write_decisions(
    mut file: BufWriter<std::fs::File>,
    decisions: &mpsc::Receiver<(Charges, StoreVerdict)>,
) {
    let mut write = || -> std::io::Result<()> {
        while let Ok(first) = decisions.recv() {
            for (charges, answer) in std::iter::once(first).chain(decisions.try_iter()) {
                serde_json::to_writer(&mut file, &RecordedDecision::new(&charges, &answer))?;
                file.write_all(b"\n")?;
            }
            file.flush()?;
        }
        Ok(())
    };
    if let Err(error) = write() {
        tracing::error!(%error, "decisions are no longer recorded");
    }
}

/// What a replay met that the reference would have decided otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A line that holds no decision.
    #[error("line {0} is no recorded decision: {1}")]
    Unreadable(usize, String),
    /// The reference decided otherwise.
    #[error("{recorded:?} was decided otherwise by the reference: {reference}")]
    Mismatch {
        /// As it was recorded.
        recorded: Box<RecordedDecision>,
        /// As the reference has it.
        reference: String,
    },
}

/// Judges recorded decisions again, in the store's order, and returns how many there were.
///
/// # Errors
/// At the first line that cannot be read or that the reference decides otherwise.
pub fn replay(lines: &str) -> Result<usize, ReplayError> {
    let parse = |(line, text)| {
        serde_json::from_str(text)
            .map_err(|error| ReplayError::Unreadable(line + 1, error.to_string()))
    };
    let mut history: Vec<RecordedDecision> =
        lines.lines().enumerate().map(parse).collect::<Result<_, _>>()?;
    history.sort_by_key(|recorded| (recorded.now_us, recorded.index));
    let mut rows = ReplayRows::default();
    for recorded in &history {
        let charges: Option<Charges> =
            recorded.charges.iter().map(RecordedCharge::to_charge).collect();
        let now = Micros::new(recorded.now_us);
        let verdict = charges.map(|charges| {
            algorithm::judge(&charges, &algorithm::offered_windows(&charges, now), now, &mut rows)
        });
        let matches = matches!(&verdict, Some(Ok(verdict)) if verdict.allowed == recorded.allowed
            && verdict.states.iter().map(|read| (read.level, read.window.get())).eq(recorded.readings.iter().copied()));
        if !matches {
            let reference = format!("{verdict:?}");
            return Err(ReplayError::Mismatch { recorded: Box::new(recorded.clone()), reference });
        }
    }
    Ok(history.len())
}

/// Rows that are never forgotten.
#[derive(Default)]
struct ReplayRows(HashMap<([u8; 16], u64), Row>);

impl Rows for ReplayRows {
    fn read(&self, charge: &Charge) -> Option<Row> {
        self.0.get(&(charge.subject.digest(), charge.limit.row().get())).copied()
    }

    fn write(&mut self, charge: &Charge, row: Row, _until: Micros) {
        self.0.insert((charge.subject.digest(), charge.limit.row().get()), row);
    }
}

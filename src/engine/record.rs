//! The record of `--record`: every verdict of the store as a line of JSON, and its replay through
//! the reference implementation.
//!
//! Lines are in the order in which this node received the verdicts; `now_us` and `index` give the
//! store's order over all nodes. Decisions of the fallback are not recorded.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use super::observer::{DecidedCheck, DecisionObserver};
use crate::algorithm::{Algorithm, Counting as _};
use crate::judge::{self, RowTable};
use crate::limit::{Charge, ChargeMode, Charges, Limit, Subject, Unit};
use crate::store::StoreVerdict;
use crate::time::Micros;

/// One verdict of a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedDecision {
    /// The store's clock, in microseconds since 1970.
    pub now_us: u64,
    /// The position among the verdicts with the same `now_us`.
    pub index: u64,
    /// The charges of the check, in order.
    pub charges: Vec<RecordedCharge>,
    /// True if the check was allowed.
    pub allowed: bool,
    /// The level of each charge's counter before the check, and the start of its window.
    pub readings: Vec<(i64, u64)>,
}

/// One charge of a recorded verdict. The subject is its Redis key, a digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedCharge {
    subject: String,
    limit: String,
    unit: String,
    cost: u64,
    /// True if the charge is made in any case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    always: bool,
    shadow: bool,
    #[serde(default)]
    alternative: bool,
    /// The plan, if the limit is that plan's meter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    meter_of: Option<String>,
    #[serde(flatten)]
    algorithm: Algorithm,
}

impl RecordedDecision {
    fn new(charges: &Charges, judged: &StoreVerdict) -> Self {
        let verdict = &judged.verdict;
        Self {
            now_us: verdict.now.get(),
            index: judged.index,
            charges: charges.iter().map(RecordedCharge::new).collect(),
            allowed: verdict.allowed,
            readings: verdict.states.iter().map(|read| (read.level, read.window.get())).collect(),
        }
    }
}

impl RecordedCharge {
    fn new(charge: &Charge) -> Self {
        Self {
            subject: charge.subject.redis_key(),
            limit: charge.limit.label().to_string(),
            unit: charge.limit.unit().to_string(),
            cost: charge.cost,
            always: charge.is_forced(),
            shadow: charge.limit.shadow(),
            alternative: charge.limit.alternative(),
            meter_of: charge.limit.metered_plan().map(str::to_owned),
            algorithm: charge.limit.algorithm().clone(),
        }
    }

    /// The charge for a replay. Its subject is another one, but distinct subjects stay distinct.
    fn to_charge(&self) -> Option<Charge> {
        let unit = Unit::new(&self.unit);
        let limit = match (&self.meter_of, self.algorithm.calendar()) {
            (Some(plan), Some(calendar)) => {
                Limit::meter(plan, unit, calendar.zone_name(), None)?.without_days()
            }
            _ => Limit::new(&self.limit, unit, self.algorithm.clone(), self.shadow),
        };
        let limit = Arc::new(if self.alternative { limit.as_alternative() } else { limit });
        let charge = Charge::new(Subject::policy("replay", &self.subject), limit, self.cost);
        let mode = if self.always { ChargeMode::Always } else { ChargeMode::IfFits };
        Some(Charge { mode, ..charge })
    }
}

/// Writes verdicts to a file, in a thread of its own.
///
/// Nothing is dropped: if the disk is slower than the checks, the checks wait.
pub struct Recorder(mpsc::SyncSender<(Charges, StoreVerdict)>);

impl Recorder {
    /// Appends to `path`. The thread ends when the recorder is dropped.
    ///
    /// # Errors
    /// If the file cannot be opened.
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
            for (charges, judged) in std::iter::once(first).chain(decisions.try_iter()) {
                serde_json::to_writer(&mut file, &RecordedDecision::new(&charges, &judged))?;
                file.write_all(b"\n")?;
            }
            file.flush()?;
        }
        Ok(())
    };
    if let Err(error) = write() {
        tracing::error!(%error, "the record cannot be written; decisions are no longer recorded");
    }
}

/// The reason why a replay failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The line is not a recorded verdict.
    #[error("line {0} is not a recorded decision: {1}")]
    Unreadable(usize, String),
    /// The reference implementation decided differently.
    #[error("{recorded:?} was decided differently by the reference: {reference}")]
    Mismatch {
        /// The recorded verdict.
        recorded: Box<RecordedDecision>,
        /// The verdict of the reference implementation.
        reference: String,
    },
}

/// Judges recorded charges again, in the store's order, and returns their number.
///
/// # Errors
/// At the first line that cannot be parsed or that the reference implementation decides
/// differently.
pub fn replay(lines: &str) -> Result<usize, ReplayError> {
    let parse = |(line, text)| {
        serde_json::from_str(text)
            .map_err(|error| ReplayError::Unreadable(line + 1, error.to_string()))
    };
    let mut history: Vec<RecordedDecision> =
        lines.lines().enumerate().map(parse).collect::<Result<_, _>>()?;
    history.sort_by_key(|recorded| (recorded.now_us, recorded.index));
    let mut rows = RowTable::default();
    for recorded in &history {
        let charges: Option<Charges> =
            recorded.charges.iter().map(RecordedCharge::to_charge).collect();
        let now = Micros::new(recorded.now_us);
        let verdict = charges.map(|charges| {
            judge::judge(&charges, &judge::offered_windows(&charges, now), now, &mut rows)
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

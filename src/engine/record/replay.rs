//! The replay of a record through the reference implementation.

use super::line::{RecordedAdjustment, RecordedCharge, RecordedDecision, RecordedLine, reading};
use crate::judge::reservation::{self, Adjusted, Reserved};
use crate::judge::{self, NotJudged, RowTable, Verdict};
use crate::limit::Charges;
use crate::time::Micros;

/// The reason why a replay failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The line is not a recorded verdict.
    #[error("line {0} is not a recorded decision, or was cut: {1}")]
    Unreadable(usize, String),
    /// Decisions are missing, so that those after them cannot be replayed.
    #[error(
        "{lost} decisions are missing, since the record could not be written; the {before} before them are equal to the reference's, and later ones cannot be replayed"
    )]
    Incomplete {
        /// The number of missing decisions.
        lost: u64,
        /// The number of decisions before them.
        before: usize,
    },
    /// The reference implementation decided differently.
    #[error("{recorded:?} was decided differently by the reference: {reference}")]
    Mismatch {
        /// The recorded line.
        recorded: Box<RecordedLine>,
        /// The verdict of the reference implementation.
        reference: String,
    },
}

/// Judges recorded charges again, in the store's order, and returns the number of lines that the
/// store has judged.
///
/// # Errors
/// At the first line that cannot be parsed or that the reference implementation decides
/// differently.
pub fn replay(lines: &str) -> Result<usize, ReplayError> {
    let parse = |(line, text)| {
        serde_json::from_str(text)
            .map_err(|error| ReplayError::Unreadable(line + 1, error.to_string()))
    };
    let mut history: Vec<RecordedLine> =
        lines.lines().enumerate().map(parse).collect::<Result<_, _>>()?;
    history.sort_by_key(RecordedLine::order);
    let (mut rows, mut before) = (RowTable::default(), 0);
    for recorded in &history {
        let replayed = match recorded {
            RecordedLine::Decision(line) => replay_decision(line, &mut rows),
            RecordedLine::Adjustment(line) => replay_adjustment(line, &mut rows),
            RecordedLine::Unjudged(_) => continue,
            RecordedLine::Gap(gap) => {
                return Err(ReplayError::Incomplete { lost: gap.lost, before });
            }
        };
        if let Err(reference) = replayed {
            return Err(ReplayError::Mismatch { recorded: Box::new(recorded.clone()), reference });
        }
        before += 1;
    }
    Ok(before)
}

/// An error is what the reference says instead.
fn replay_decision(line: &RecordedDecision, rows: &mut RowTable) -> Result<(), String> {
    let charges: Option<Charges> = line.charges.iter().map(RecordedCharge::to_charge).collect();
    let charges = charges.ok_or("a charge cannot be read")?;
    let now = Micros::new(line.now_us);
    let offered = judge::offered_windows(&charges, now);
    let verdict: Result<Verdict, NotJudged> = match &line.reserves {
        None => judge::judge(&charges, &offered, now, rows),
        Some(recorded) => {
            let new = recorded.to_new().ok_or("the reservation cannot be read")?;
            let reserved = reservation::reserve(&charges, &offered, &new, now, rows);
            match reserved {
                Ok(Reserved::Judged(verdict)) => Ok(verdict),
                Err(why) => Err(why),
                Ok(other) => return Err(format!("{other:?}")),
            }
        }
    };
    let matches = matches!(&verdict, Ok(verdict) if verdict.allowed == line.allowed
        && verdict.states.iter().map(reading).eq(line.readings.iter().copied()));
    if matches { Ok(()) } else { Err(format!("{verdict:?}")) }
}

/// An error is what the reference says instead.
fn replay_adjustment(line: &RecordedAdjustment, rows: &mut RowTable) -> Result<(), String> {
    let adjustment = line.to_adjustment().ok_or("the reservation cannot be read")?;
    let now = Micros::new(line.now_us);
    let windows = adjustment.charges.iter().map(|charge| {
        let calendar = charge.limit.as_ref().and_then(|limit| limit.calendar());
        calendar.map(|calendar| calendar.windows(now))
    });
    let offered: Vec<_> = windows.collect();
    match reservation::adjust(&adjustment, &offered, now, rows) {
        Ok(Adjusted::Done { is_late, charges }) if line.matches(is_late, &charges) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

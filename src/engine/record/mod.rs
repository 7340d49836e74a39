//! The record of `--record`: every verdict of the store as a line of JSON, and its replay through
//! the reference implementation.
//!
//! Lines are in the order in which this node received the verdicts; `now_us` and `index` give the
//! store's order over all nodes. Decisions of the fallback are not recorded, nor is what charged
//! nothing: a repeated check of an open reservation, or a settlement of none. While the disk is
//! full, decisions are lost and checks go on; a line then says how many are missing, and where.

mod line;
mod replay;

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::observer::{AdjustedCheck, DecidedCheck, DecisionObserver};
use crate::limit::{Adjustment, Charges, NewReservation};
use crate::store::{AdjustedReservation, StoreVerdict};
use crate::telemetry::LogThrottle;
use line::RecordedGap;
pub use line::RecordedLine;
pub use replay::{ReplayError, replay};

/// The most lines that are written at once.
const MAX_BATCH: usize = 1_024;

/// An event that the recorder's thread makes into a line.
enum Event {
    Decided(Charges, StoreVerdict, Option<NewReservation>),
    Adjusted(Adjustment, AdjustedReservation),
}

/// Writes verdicts to a file, in a thread of its own.
///
/// Nothing is dropped: if the disk is slower than the checks, the checks wait.
pub struct Recorder(mpsc::SyncSender<Event>);

impl Recorder {
    /// Appends to `path`. The thread ends when the recorder is dropped.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<(Self, JoinHandle<()>)> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let is_regular = file.metadata()?.is_file();
        if is_regular && ends_within_a_line(&mut file)? {
            file.write_all(b"\n")?;
        }
        let (sender, events) = mpsc::sync_channel(1 << 16);
        let thread = std::thread::Builder::new()
            .name("record".into())
            .spawn(move || write_events(&file, &events))?;
        Ok((Self(sender), thread))
    }
}

impl DecisionObserver for Recorder {
    fn on_decision(&self, check: &DecidedCheck<'_>) {
        if let Some(verdict) = check.verdict {
            let reservation = check.reservation.cloned();
            let event = Event::Decided(check.charges.clone(), verdict.clone(), reservation);
            let _writer_failed = self.0.send(event);
        }
    }

    fn on_adjustment(&self, check: &AdjustedCheck<'_>) {
        let event = Event::Adjusted(check.adjustment.clone(), check.adjusted.clone());
        let _writer_failed = self.0.send(event);
    }
}

/// True if the last line of an earlier process was cut: nothing must be appended to it.
fn ends_within_a_line(file: &mut File) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn write_events(file: &File, events: &mpsc::Receiver<Event>) {
    let warning = LogThrottle::default();
    let mut gap: Option<RecordedGap> = None;
    while let Ok(first) = events.recv() {
        let batch = std::iter::once(first).chain(events.try_iter()).take(MAX_BATCH);
        let lines: Vec<RecordedLine> = batch.map(|event| RecordedLine::new(&event)).collect();
        match append(file, gap.as_ref(), &lines) {
            Ok(()) => {
                if let Some(RecordedGap { lost, .. }) = gap.take() {
                    tracing::warn!(lost, "the record is written again; decisions are missing");
                }
            }
            Err(error) => {
                let first = lines.first().map(RecordedLine::order);
                let gap = gap.get_or_insert_with(|| RecordedGap::new(first.unwrap_or_default()));
                gap.lost += lines.len() as u64;
                if warning.is_due() {
                    let lost = gap.lost;
                    tracing::error!(%error, lost, "the record cannot be written; decisions are missing until it can");
                }
            }
        }
    }
}

/// Appends all lines or none, behind a line for the gap before them.
fn append(
    mut file: &File,
    gap: Option<&RecordedGap>,
    lines: &[RecordedLine],
) -> std::io::Result<()> {
    let mut text = Vec::new();
    let gap = gap.map(|gap| RecordedLine::Gap(gap.clone()));
    for line in gap.iter().chain(lines) {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    let metadata = file.metadata()?;
    file.write_all(&text).inspect_err(|_| {
        if metadata.is_file() {
            let _still_cut = file.set_len(metadata.len());
        }
    })
}

//! The record of `--record`: every verdict of the store as a line of JSON, and its replay through
//! the reference implementation.
//!
//! Lines are in the order in which this node received the verdicts; `now_us` and `index` give the
//! store's order over all nodes. Decisions of the fallback are not recorded, nor is what charged
//! nothing: a repeated check of an open reservation, or a settlement of none.

mod line;
mod replay;

use std::fs::OpenOptions;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::observer::{AdjustedCheck, DecidedCheck, DecisionObserver};
use crate::limit::{Adjustment, Charges, NewReservation};
use crate::store::{AdjustedReservation, StoreVerdict};
pub use line::RecordedLine;
pub use replay::{ReplayError, replay};

/// What the recorder's thread writes, before it is made into a line.
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
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (sender, events) = mpsc::sync_channel(1 << 16);
        let thread = std::thread::Builder::new()
            .name("record".into())
            .spawn(move || write_events(BufWriter::new(file), &events))?;
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

fn write_events(mut file: BufWriter<std::fs::File>, events: &mpsc::Receiver<Event>) {
    let mut write = || -> std::io::Result<()> {
        while let Ok(first) = events.recv() {
            for event in std::iter::once(first).chain(events.try_iter()) {
                serde_json::to_writer(&mut file, &RecordedLine::new(&event))?;
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

//! The record of `--record`: every decision as a line of JSON, and its replay through the reference
//! implementation.
//!
//! Lines are in the order in which this node received the verdicts; `now_us` and `index` give the
//! store's order over all nodes. Decisions without the store (the denial memo, the fallback) are
//! lines only if requests are recorded, for `what_if`; a replay skips them. A line is missing for
//! whatever charged nothing: a repeated check of an open reservation, or a settlement of none. While
//! the disk is full, decisions are lost and checks go on; a line then says how many are missing, and
//! where.

mod file;
mod line;
mod replay;
mod request;
mod what_if;

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use super::decision::DecisionStatus;
use super::observer::{AdjustedCheck, DecidedCheck, DecisionObserver};
use crate::limit::{Adjustment, Charges, NewReservation};
use crate::settings::RecordSettings;
use crate::store::{AdjustedReservation, Store, StoreVerdict};
use crate::telemetry::LogThrottle;
use file::RecordFile;
pub use file::read_recent;
pub use line::RecordedLine;
use line::{RecordedGap, RecordedUnjudged};
pub use replay::{ReplayError, replay};
use request::RecordedRequest;
pub use what_if::{
    MergedLines, RecordSource, RefusalRow, Unplaced, UnplacedChecks, WhatIf, WhatIfKeys,
    WhatIfReport, key_ids,
};

/// The most lines that are written at once.
const MAX_BATCH: usize = 1_024;
/// The time for which lines are gathered before they are written. Without it the thread would be
/// woken for each check, which costs the check more than its line does.
const GATHERING_TIME: Duration = Duration::from_millis(5);

/// An event for the recorder's thread.
enum Event {
    /// A verdict of the store, which becomes a line.
    Decided(Box<Decided>),
    /// A decision without the store, which becomes a line.
    Unjudged(Box<RecordedUnjudged>),
    /// An adjusted reservation, which becomes a line.
    Adjusted(Box<(Adjustment, AdjustedReservation)>),
    /// The file is to be opened again.
    Reopen,
}

/// A verdict with all that its line has.
struct Decided {
    charges: Charges,
    judged: StoreVerdict,
    reservation: Option<NewReservation>,
    request: Option<RecordedRequest>,
    refused_by: Option<Arc<str>>,
}

/// Writes decisions to a file, in a thread of its own.
///
/// Nothing is dropped: if the disk is slower than the checks, the checks wait.
pub struct Recorder {
    settings: RecordSettings,
    events: mpsc::SyncSender<Event>,
}

/// The observer of one worker's decisions.
struct WorkerRecorder {
    events: mpsc::SyncSender<Event>,
    requests: bool,
    /// The worker's store, for its clock.
    store: Store,
}

impl Recorder {
    /// Appends to the file of `settings`. The thread ends when the recorder and the observers of all
    /// workers are dropped.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(settings: RecordSettings) -> std::io::Result<(Self, JoinHandle<()>)> {
        let file = RecordFile::open(settings.clone())?;
        let (events, received) = mpsc::sync_channel(1 << 16);
        let thread = std::thread::Builder::new()
            .name("record".into())
            .spawn(move || write_events(file, &received))?;
        Ok((Self { settings, events }, thread))
    }

    /// The observer of the decisions of one worker, whose store is `store`.
    #[must_use]
    pub fn worker(&self, store: Store) -> Arc<dyn DecisionObserver> {
        let (events, requests) = (self.events.clone(), self.settings.requests);
        Arc::new(WorkerRecorder { events, requests, store })
    }

    /// Opens the file again, once the lines before are written: it may have been renamed.
    pub fn reopen(&self) {
        let _writer_failed = self.events.send(Event::Reopen);
    }

    /// The file, its size, and what it holds.
    #[must_use]
    pub fn settings(&self) -> &RecordSettings {
        &self.settings
    }
}

impl WorkerRecorder {
    fn request(&self, check: &DecidedCheck<'_>) -> Option<RecordedRequest> {
        let request = check.request.filter(|_| self.requests)?;
        let decision = check.decision;
        let key_id = decision.key.as_ref().map(|key| &*key.id);
        Some(RecordedRequest::new(request, key_id, decision.plan.as_deref()))
    }

    /// A decision of the node alone. A repeated check of an open reservation was decided before.
    fn unjudged(&self, check: &DecidedCheck<'_>) -> Option<RecordedUnjudged> {
        let decision = check.decision;
        if decision.reservation.is_some() {
            return None;
        }
        Some(RecordedUnjudged {
            now_us: self.store.now().get(),
            index: 0,
            decided_by: decision.decided_by.as_str().into(),
            allowed: decision.allowed() || is_report(check),
            refused_by: refused_by(check).map(|label| (*label).into()),
            request: self.request(check)?,
        })
    }
}

fn is_report(check: &DecidedCheck<'_>) -> bool {
    matches!(check.decision.status, DecisionStatus::Reported | DecisionStatus::Unreported)
}

/// The limit that refuses a check; a report is not refused.
fn refused_by(check: &DecidedCheck<'_>) -> Option<Arc<str>> {
    check.refusing.filter(|_| !is_report(check)).cloned()
}

impl DecisionObserver for WorkerRecorder {
    fn on_decision(&self, check: &DecidedCheck<'_>) {
        let event = match check.verdict {
            Some(judged) => Event::Decided(Box::new(Decided {
                charges: check.charges.clone(),
                judged: judged.clone(),
                reservation: check.reservation.cloned(),
                request: self.request(check),
                refused_by: refused_by(check),
            })),
            None => match self.unjudged(check) {
                Some(line) => Event::Unjudged(Box::new(line)),
                None => return,
            },
        };
        let _writer_failed = self.events.send(event);
    }

    fn on_adjustment(&self, check: &AdjustedCheck<'_>) {
        let adjusted = (check.adjustment.clone(), check.adjusted.clone());
        let _writer_failed = self.events.send(Event::Adjusted(Box::new(adjusted)));
    }
}

fn write_events(mut file: RecordFile, events: &mpsc::Receiver<Event>) {
    let warning = LogThrottle::default();
    let mut gap: Option<RecordedGap> = None;
    let mut gathers = true;
    while let Ok(first) = events.recv() {
        if gathers {
            // The channel takes what comes meanwhile, and keeps it also when all senders are gone.
            std::thread::sleep(GATHERING_TIME);
        }
        let batch = std::iter::once(first).chain(events.try_iter()).take(MAX_BATCH);
        // Lines behind a request to open the file again belong in the new file.
        let mut reopens = false;
        let line = |event| {
            reopens = matches!(event, Event::Reopen);
            RecordedLine::new(event)
        };
        let lines: Vec<RecordedLine> = batch.map_while(line).collect();
        // More lines wait behind a full batch, if the disk or this thread is behind.
        gathers = lines.len() < MAX_BATCH;
        if !lines.is_empty() {
            write_lines(&mut file, &lines, &mut gap, &warning);
        }
        if reopens {
            file.reopen();
        }
    }
}

fn write_lines(
    file: &mut RecordFile,
    lines: &[RecordedLine],
    gap: &mut Option<RecordedGap>,
    warning: &LogThrottle,
) {
    match append(file, gap.as_ref(), lines) {
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

/// Appends all lines or none, behind a line for the gap before them.
fn append(
    file: &mut RecordFile,
    gap: Option<&RecordedGap>,
    lines: &[RecordedLine],
) -> std::io::Result<()> {
    let mut text = Vec::new();
    let gap = gap.map(|gap| RecordedLine::Gap(gap.clone()));
    for line in gap.iter().chain(lines) {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    file.append(&text)
}

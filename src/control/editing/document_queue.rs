//! The queue of a node's edits of the document, which holds all APIs and usage plans.
//!
//! Edits that wait at the same time are made one after the other to one copy of the document, and
//! committed as one batch: the requests of a node never conflict with each other, and a commit
//! costs the same for one edit and for thirty. Nodes do not wait for each other: after a conflict a
//! node reserves the next commit under its name. Batches are committed by `document_commit`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::Instant;

use super::conflict_retry::Backoff;
use crate::control::model::{ControlError, Document, random_alphanumeric};
use crate::store::StoreError;

/// The edits of a node that wait to be committed.
pub(super) struct DocumentQueue {
    editor: String,
    state: Mutex<QueueState>,
}

/// The batch that is open, and the next attempt after a conflict.
pub(super) struct QueueState {
    /// The batch that requests join.
    pub(super) open: Option<Batch>,
    /// The time before which no batch begins.
    not_before: Instant,
    backoff: Backoff,
}

/// The result of a batch, for each of its edits.
#[derive(Clone)]
pub(super) enum BatchOutcome {
    /// All of its edits have been committed.
    Committed,
    /// Another commit was first. Nothing was changed.
    Conflict,
    /// The edits make no valid catalog together, for this reason. Nothing was changed.
    Invalid(String),
    /// The store failed. If it gave no reply, the edits may have been committed.
    Failed(StoreError),
}

/// The place of a request in a batch.
pub(super) struct PlaceInBatch(watch::Receiver<Option<BatchOutcome>>);

/// Edits that are committed together.
pub(super) struct Batch {
    /// The entry that the document was read from.
    pub(super) was: Option<String>,
    /// The document with all edits of the batch.
    pub(super) document: Document,
    /// A note for each edit.
    pub(super) notes: Vec<String>,
    /// True if it takes no edit beside its first.
    pub(super) is_closed: bool,
    resources: ResourceTexts,
    outcome: watch::Sender<Option<BatchOutcome>>,
}

/// The JSON of the document's resources by their paths in the admin API.
type ResourceTexts = BTreeMap<String, String>;

impl DocumentQueue {
    /// An empty queue, with a random name for the node.
    pub(super) fn new() -> Self {
        let state = QueueState { open: None, not_before: Instant::now(), backoff: Backoff::new() };
        Self { editor: random_alphanumeric(16), state: Mutex::new(state) }
    }

    /// The name under which the node reserves commits.
    pub(super) fn editor(&self) -> &str {
        &self.editor
    }

    /// Waits for the queue. Requests get it in their order, and a commit keeps it until its batch
    /// has ended.
    pub(super) async fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().await
    }
}

impl QueueState {
    /// Waits until a batch may begin. All requests of the node wait together, so that those that
    /// met a conflict are in the batch whose turn it then is.
    pub(super) async fn wait_to_begin(&self) {
        tokio::time::sleep_until(self.not_before).await;
    }

    /// Puts off the next batch after a conflict, each time for longer.
    pub(super) fn ended(&mut self, outcome: &BatchOutcome) {
        if matches!(outcome, BatchOutcome::Conflict) {
            self.not_before = Instant::now() + self.backoff.next_pause();
        } else {
            self.backoff = Backoff::new();
        }
    }
}

impl PlaceInBatch {
    /// Waits until the batch has been committed, or has failed.
    pub(super) async fn outcome(mut self) -> BatchOutcome {
        // A batch is dropped without an outcome when the node stops.
        let stopped = || BatchOutcome::Failed(StoreError::Unreachable("the node stops".into()));
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(stopped),
            Err(_) => stopped(),
        }
    }
}

impl Batch {
    /// A batch without edits on top of an entry of the registry.
    ///
    /// # Errors
    /// If the entry is no document of this version.
    pub(super) fn open(was: Option<String>, is_closed: bool) -> Result<Self, ControlError> {
        let document = Document::parse(was.as_deref())?;
        let resources = resource_texts(&document);
        let outcome = watch::Sender::new(None);
        Ok(Self { was, document, notes: Vec::new(), is_closed, resources, outcome })
    }

    /// The place of a request in this batch.
    pub(super) fn place(&self) -> PlaceInBatch {
        PlaceInBatch(self.outcome.subscribe())
    }

    /// Tells all requests of the batch its outcome.
    pub(super) fn end(self, outcome: BatchOutcome) {
        self.outcome.send_replace(Some(outcome));
    }

    /// Makes an edit, with the note that `to_note` makes of the paths of the resources that it has
    /// changed. A failed edit changes nothing.
    ///
    /// # Errors
    /// If `change` fails.
    pub(super) fn apply<T>(
        &mut self,
        change: impl FnOnce(&mut Document) -> Result<T, ControlError>,
        to_note: impl FnOnce(BTreeSet<String>) -> String,
    ) -> Result<T, ControlError> {
        let mut document = self.document.clone();
        let made = change(&mut document)?;
        let resources = resource_texts(&document);
        let paths = self.resources.keys().chain(resources.keys());
        let differs = |path: &&String| self.resources.get(*path) != resources.get(*path);
        self.notes.push(to_note(paths.filter(differs).cloned().collect()));
        (self.document, self.resources) = (document, resources);
        Ok(made)
    }
}

fn resource_texts(document: &Document) -> ResourceTexts {
    let apis = document.rest_apis.iter().map(|(id, api)| (format!("/restapis/{id}"), text_of(api)));
    let plans = document.usage_plans.iter();
    apis.chain(plans.map(|(id, plan)| (format!("/usageplans/{id}"), text_of(plan)))).collect()
}

/// The JSON of a resource, which only is compared.
fn text_of(resource: &impl Serialize) -> String {
    serde_json::to_string(resource).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(batch: &mut Batch, id: &str) -> Result<(), ControlError> {
        let plan = serde_json::json!({"id": id, "name": id});
        let change = |document: &mut Document| {
            let plan = serde_json::from_value(plan).map_err(|_| ControlError::no_usage_plan())?;
            document.usage_plans.insert(id.into(), plan);
            document.plan("p").map(drop)
        };
        batch.apply(change, |paths| paths.into_iter().collect())
    }

    #[test]
    fn each_edit_of_a_batch_is_on_top_of_the_others_and_has_its_own_note() {
        let mut batch = Batch::open(None, false).unwrap();
        assert!(edit(&mut batch, "other").is_err(), "there is no p yet");
        edit(&mut batch, "p").unwrap();
        edit(&mut batch, "q").unwrap();
        edit(&mut batch, "q").unwrap();
        let plans: Vec<_> = batch.document.usage_plans.keys().collect();
        assert_eq!(plans, ["p", "q"], "the failed edit changed nothing");
        assert_eq!(batch.notes, ["/usageplans/p", "/usageplans/q", ""]);
    }

    #[tokio::test]
    async fn the_outcome_of_a_batch_reaches_all_its_requests() {
        let queue = DocumentQueue::new();
        let batch = Batch::open(None, false).unwrap();
        let places = [batch.place(), batch.place()];
        queue.lock().await.open = Some(batch);
        let batch = queue.lock().await.open.take().unwrap();
        batch.end(BatchOutcome::Conflict);
        for place in places {
            assert!(matches!(place.outcome().await, BatchOutcome::Conflict));
        }
        let place = Batch::open(None, false).unwrap().place();
        assert!(matches!(place.outcome().await, BatchOutcome::Failed(_)), "it was dropped");
    }
}

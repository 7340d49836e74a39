//! Edits of the document: each joins the batch that waits to be committed, or begins one.
//!
//! A batch is committed by a task of its own, so that a client that goes away does not take the
//! edits of others with it. Batches and their order are in `document_queue`.

use super::conflict_retry::ConflictRetry;
use super::document_queue::{Batch, BatchOutcome};
use super::session::EditSession;
use crate::control::model::{AuditEntry, ControlError, Document, EntryPath};
use crate::store::{CommitError, EntryChange};

impl EditSession {
    /// Changes APIs and plans, together with other requests of this node that wait to change them. A
    /// document that makes no valid catalog is refused.
    pub(super) async fn edit_document<T>(
        &self,
        change: impl Fn(&mut Document) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let mut retry = ConflictRetry::start();
        let mut is_alone = false;
        loop {
            let (made, outcome) = self.try_edit(&change, is_alone).await?;
            match outcome {
                // An error of a state that was committed.
                BatchOutcome::Committed => return made,
                BatchOutcome::Conflict => retry.count()?,
                BatchOutcome::Failed(error) => return Err(error.into()),
                BatchOutcome::Invalid(why) if is_alone => {
                    return Err(ControlError::BadRequest(why));
                }
                // The reason may be another edit's: alone, each gets its own.
                BatchOutcome::Invalid(_) => is_alone = true,
            }
        }
    }

    /// Makes a change in the batch that is open now, or in a new one; if `is_alone`, in one of its
    /// own.
    ///
    /// # Errors
    /// If the change fails as the first of a batch, or the registry cannot be read.
    async fn try_edit<T>(
        &self,
        change: impl Fn(&mut Document) -> Result<T, ControlError>,
        is_alone: bool,
    ) -> Result<(Result<T, ControlError>, BatchOutcome), ControlError> {
        let to_note = |paths| AuditEntry::of_resources(&self.origin, paths).to_note();
        loop {
            let mut queue = self.document_queue.lock().await;
            let (made, place) = match &mut queue.open {
                Some(batch) if is_alone || batch.is_closed => {
                    let place = batch.place();
                    drop(queue);
                    place.outcome().await;
                    continue;
                }
                Some(batch) => (batch.apply(&change, to_note), batch.place()),
                None => {
                    queue.wait_to_begin().await;
                    let was = self.registry.get(&EntryPath::Document.to_string()).await?;
                    let mut batch = Batch::open(was, is_alone)?;
                    let made = batch.apply(&change, to_note)?;
                    let place = batch.place();
                    queue.open = Some(batch);
                    tokio::spawn(self.clone().commit_open_batch());
                    (Ok(made), place)
                }
            };
            drop(queue);
            return Ok((made, place.outcome().await));
        }
    }

    /// Commits the batch that is open, with the edits of all requests that wait by now.
    async fn commit_open_batch(self) {
        let mut queue = self.document_queue.lock().await;
        if let Some(batch) = queue.open.take() {
            let outcome = self.commit_batch(&batch).await;
            queue.ended(&outcome);
            batch.end(outcome);
        }
    }

    async fn commit_batch(&self, batch: &Batch) -> BatchOutcome {
        let becomes = match self.live.validate(&batch.document) {
            Ok(becomes) => becomes,
            Err(invalid) => return BatchOutcome::Invalid(invalid.to_string()),
        };
        let path = EntryPath::Document.into();
        let change = EntryChange { path, was: batch.was.clone(), becomes: Some(becomes) };
        let editor = Some(self.document_queue.editor());
        match self.registry.commit(&[change], &[], &batch.notes, editor).await {
            Ok(_) => {
                self.refresh_after_commit().await;
                BatchOutcome::Committed
            }
            Err(CommitError::Conflict) => BatchOutcome::Conflict,
            Err(CommitError::Store(error)) => BatchOutcome::Failed(error),
        }
    }
}

//! The queue of a node's edits of the document, which holds all APIs and usage plans.
//!
//! Edits of one node come one after the other, in the order of their requests, so they never
//! conflict with each other. Nodes do not wait for each other: after a conflict a node reserves the
//! next commit under its name. The edits are made by their session.

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout_at};

use crate::control::model::{ControlError, random_alphanumeric};

/// The edits of a node that wait for their turn.
pub(super) struct DocumentQueue {
    editor: String,
    queue: Mutex<()>,
}

impl DocumentQueue {
    /// An empty queue, with a random name for the node.
    pub(super) fn new() -> Self {
        Self { editor: random_alphanumeric(16), queue: Mutex::new(()) }
    }

    /// The name under which the node reserves commits.
    pub(super) fn editor(&self) -> &str {
        &self.editor
    }

    /// Waits until no other edit of this node is in progress.
    ///
    /// # Errors
    /// If that takes until the deadline.
    pub(super) async fn wait(&self, deadline: Instant) -> Result<MutexGuard<'_, ()>, ControlError> {
        let turn = timeout_at(deadline, self.queue.lock()).await;
        turn.map_err(|_| ControlError::too_many_conflicts())
    }
}

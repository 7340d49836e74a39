//! The audit log: reads its entries page by page, and adds those of changes outside the registry.
//!
//! The entry of a change to the registry is part of its commit (`session`).

use serde_json::Value;

use super::session::EditSession;
use crate::control::model::{AuditEntry, ControlError};
use crate::store::CommitError;

/// Entries per read of the registry.
const ENTRIES_PER_READ: usize = 500;

/// Reads and writes the audit log.
pub struct AuditLog<'e> {
    session: &'e EditSession,
}

impl<'e> AuditLog<'e> {
    pub(super) fn new(session: &'e EditSession) -> Self {
        Self { session }
    }

    /// Records a change to a resource that is not in the registry.
    pub(super) async fn record(&self, resource: String) -> Result<(), ControlError> {
        let entry = AuditEntry::of_resources(&self.session.origin, [resource]);
        match self.session.registry.commit(&[], &[], &[entry.to_note()], None).await {
            // A commit without changes conflicts with no other.
            Ok(_) | Err(CommitError::Conflict) => Ok(()),
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }

    /// Up to `limit` changes before the one with the id `before`, the newest first, and the start
    /// of the next page if there is one. Only changes whose request or resources have a path with
    /// this prefix are returned.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn page(
        &self,
        before: Option<&str>,
        limit: usize,
        prefix: &str,
    ) -> Result<(Vec<Value>, Option<String>), ControlError> {
        let mut before = before.map(str::to_owned);
        let mut page = Vec::new();
        loop {
            let notes = self.session.registry.notes(before.as_deref(), ENTRIES_PER_READ).await?;
            let last = notes.len() < ENTRIES_PER_READ;
            for note in notes {
                if let Some(entry) = AuditEntry::render(&note, prefix) {
                    if page.len() == limit {
                        return Ok((page, before));
                    }
                    page.push(entry);
                }
                before = Some(note.id);
            }
            if last {
                return Ok((page, None));
            }
        }
    }
}

//! The audit log: who changed what, when, and by which request.
//!
//! Each change is noted in the commit that makes it, so none can be missed; what was refused has
//! changed nothing and is in the service's log only. No note holds a value, a digest or a credential.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::keys::{key_path, plan_key_path};
use super::{ControlError, Editor, document};
use crate::store::{CommitError, CommitNote, EntryChange};

/// The most resources that one note names.
const MAX_RESOURCES_PER_NOTE: usize = 100;
/// How many notes are read at a time.
const NOTES_PER_READ: usize = 500;

/// Who makes changes, and by which request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeOrigin {
    /// By which credential it was let in: its setting, or the id of an access key.
    pub who: String,
    /// The request's method.
    pub method: String,
    /// The request's path.
    pub path: String,
    /// The request's id, as its answer tells it.
    pub request_id: String,
    /// The answer's status once all of the request is done.
    pub status: u16,
}

/// What is noted.
#[derive(Serialize, Deserialize)]
struct AuditEntry {
    #[serde(flatten)]
    origin: ChangeOrigin,
    /// The paths of the resources that were made, changed or removed.
    changed: BTreeSet<String>,
}

/// The note of a commit.
pub(super) fn audit_note(origin: &ChangeOrigin, changes: &[EntryChange]) -> String {
    let touched = changes.iter().flat_map(changed_resources).take(MAX_RESOURCES_PER_NOTE);
    json!(AuditEntry { origin: origin.clone(), changed: touched.collect() }).to_string()
}

/// The resources that an entry stands for, as the API calls them.
fn changed_resources(change: &EntryChange) -> Vec<String> {
    if change.path == document::ENTRY_PATH {
        return changed_in_document(change.was.as_deref(), change.becomes.as_deref());
    }
    if let Some(id) = change.path.strip_prefix(&key_path("")) {
        return vec![format!("/apikeys/{id}")];
    }
    let link = change.path.strip_prefix(plan_key_path("", "").trim_end_matches('/'));
    match link.and_then(|link| link.trim_start_matches('/').split_once('/')) {
        Some((plan, key)) => vec![format!("/usageplans/{plan}/keys/{key}")],
        // A digest's entry goes with its key's.
        None => Vec::new(),
    }
}

/// The APIs and plans in which two documents differ.
fn changed_in_document(was: Option<&str>, becomes: Option<&str>) -> Vec<String> {
    let read = |text: Option<&str>| text.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let (was, becomes) = (read(was).unwrap_or_default(), read(becomes).unwrap_or_default());
    let mut changed = Vec::new();
    for (member, path) in [("restApis", "restapis"), ("usagePlans", "usageplans")] {
        let [old, new] = [&was, &becomes].map(|document| document[member].as_object());
        let ids = old.into_iter().chain(new).flat_map(serde_json::Map::keys);
        let differs =
            |id: &&String| old.and_then(|all| all.get(*id)) != new.and_then(|all| all.get(*id));
        changed.extend(ids.filter(differs).map(|id| format!("/{path}/{id}")));
    }
    changed
}

impl Editor {
    /// Notes what is changed elsewhere than in the registry.
    pub(super) async fn record_audit_note(&self, changed: String) -> Result<(), ControlError> {
        let entry = AuditEntry { origin: self.origin.clone(), changed: [changed].into() };
        match self.registry.commit(&[], &json!(entry).to_string()).await {
            // Without a change there is nobody to be in the way.
            Ok(_) | Err(CommitError::Conflict) => Ok(()),
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }

    /// Up to `limit` changes from before the one with the id `before`, the newest first, and where
    /// the next page begins if there is one. With `under`, only those whose request or resources
    /// have a path that begins so.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub async fn audit_page(
        &self,
        before: Option<&str>,
        limit: usize,
        under: &str,
    ) -> Result<(Vec<Value>, Option<String>), ControlError> {
        let mut before = before.map(str::to_owned);
        let mut page = Vec::new();
        loop {
            let notes = self.registry.notes(before.as_deref(), NOTES_PER_READ).await?;
            let last = notes.len() < NOTES_PER_READ;
            for note in notes {
                if let Some(entry) = render_note(&note, under) {
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

/// A note as it is told; nothing where it is not of what is asked for.
fn render_note(note: &CommitNote, under: &str) -> Option<Value> {
    let entry: AuditEntry = serde_json::from_str(&note.text).ok()?;
    let mut paths = entry.changed.iter().chain([&entry.origin.path]);
    paths.any(|path| path.starts_with(under)).then(|| {
        let at = i64::try_from(note.unix_millis())
            .ok()
            .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
        let mut rendered = json!(entry);
        rendered["id"] = note.id.clone().into();
        rendered["at"] = at.map(|at| at.to_string()).into();
        rendered
    })
}

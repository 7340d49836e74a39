//! Entries of the audit log: the author of a change, its request, and the resources that it
//! changed.
//!
//! An entry is committed together with its change, so no change is without one. A refused request
//! changes nothing, and is in the service's log only. No entry holds a key's value, a digest or a
//! credential.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::EntryPath;
use crate::store::{CommitNote, EntryChange};

/// The most resources that one entry names.
const MAX_RESOURCES: usize = 100;

/// The author of changes, and the request that makes them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeOrigin {
    /// The credential of the request: the name of its setting, or the id of an access key.
    pub who: String,
    /// The request's method.
    pub method: String,
    /// The request's path.
    pub path: String,
    /// The request's id, as in its response.
    pub request_id: String,
    /// The response's status if all of the request succeeds.
    pub status: u16,
}

/// An entry of the audit log.
#[derive(Serialize, Deserialize)]
pub(in crate::control) struct AuditEntry {
    #[serde(flatten)]
    origin: ChangeOrigin,
    /// The paths of the resources that were created, changed or deleted.
    changed: BTreeSet<String>,
}

impl AuditEntry {
    /// The entry for a commit of keys to the registry.
    pub(in crate::control) fn of_commit(origin: &ChangeOrigin, changes: &[EntryChange]) -> Self {
        Self::of_resources(origin, changes.iter().filter_map(changed_resource))
    }

    /// The entry for a change of resources with these paths in the admin API: of the document, or
    /// outside the registry.
    pub(in crate::control) fn of_resources(
        origin: &ChangeOrigin,
        paths: impl IntoIterator<Item = String>,
    ) -> Self {
        let changed = paths.into_iter().take(MAX_RESOURCES).collect();
        Self { origin: origin.clone(), changed }
    }

    /// The text that a commit keeps of it.
    pub(in crate::control) fn to_note(&self) -> String {
        json!(self).to_string()
    }

    /// The JSON of a note for the admin API; `None` if the note cannot be read, or neither its
    /// request's path nor a changed resource starts with `prefix`.
    pub(in crate::control) fn render(note: &CommitNote, prefix: &str) -> Option<Value> {
        let entry: Self = serde_json::from_str(&note.text).ok()?;
        let mut paths = entry.changed.iter().chain([&entry.origin.path]);
        paths.any(|path| path.starts_with(prefix)).then(|| {
            let at = i64::try_from(note.unix_millis())
                .ok()
                .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
            let mut rendered = json!(entry);
            rendered["id"] = note.id.clone().into();
            rendered["at"] = at.map(|at| at.to_string()).into();
            rendered
        })
    }
}

/// The path in the admin API of the resource that an entry of the registry holds.
fn changed_resource(change: &EntryChange) -> Option<String> {
    match EntryPath::parse(&change.path)? {
        EntryPath::Key(id) => Some(format!("/apikeys/{id}")),
        EntryPath::PlanKey { plan, key } => Some(format!("/usageplans/{plan}/keys/{key}")),
        // A digest changes only together with its key, and the document has many resources.
        EntryPath::Digest(_) | EntryPath::Document => None,
    }
}

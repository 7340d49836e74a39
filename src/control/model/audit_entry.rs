//! Entries of the audit log: the author of a change, its request, and the resources that it
//! changed.
//!
//! An entry is committed together with its change, so no change is without one. A refused request
//! changes nothing, and is in the service's log only. No entry holds a key's value, a digest or a
//! credential.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

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
    /// The entry for a commit to the registry.
    pub(in crate::control) fn of_commit(origin: &ChangeOrigin, changes: &[EntryChange]) -> Self {
        let resources = changes.iter().flat_map(changed_resources).take(MAX_RESOURCES);
        Self { origin: origin.clone(), changed: resources.collect() }
    }

    /// The entry for a change of one resource outside the registry.
    pub(in crate::control) fn of_resource(origin: &ChangeOrigin, path: String) -> Self {
        Self { origin: origin.clone(), changed: [path].into() }
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

/// The resources of an entry of the registry, by their paths in the admin API.
fn changed_resources(change: &EntryChange) -> Vec<String> {
    match EntryPath::parse(&change.path) {
        Some(EntryPath::Document) => {
            changed_in_document(change.was.as_deref(), change.becomes.as_deref())
        }
        Some(EntryPath::Key(id)) => vec![format!("/apikeys/{id}")],
        Some(EntryPath::PlanKey { plan, key }) => vec![format!("/usageplans/{plan}/keys/{key}")],
        // A digest changes only together with its key.
        Some(EntryPath::Digest(_)) | None => Vec::new(),
    }
}

/// The APIs and plans in which two documents differ.
fn changed_in_document(was: Option<&str>, becomes: Option<&str>) -> Vec<String> {
    let read = |text: Option<&str>| text.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let (was, becomes) = (read(was).unwrap_or_default(), read(becomes).unwrap_or_default());
    let mut changed = Vec::new();
    for (member, path) in [("restApis", "restapis"), ("usagePlans", "usageplans")] {
        let [old, new] = [&was, &becomes].map(|document| document[member].as_object());
        let ids = old.into_iter().chain(new).flat_map(Map::keys);
        let differs =
            |id: &&String| old.and_then(|all| all.get(*id)) != new.and_then(|all| all.get(*id));
        changed.extend(ids.filter(differs).map(|id| format!("/{path}/{id}")));
    }
    changed
}

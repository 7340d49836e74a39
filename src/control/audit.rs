//! The audit log: who changed what, when, and by which request.
//!
//! Each change is noted in the commit that makes it, so none can be missed; what was refused has
//! changed nothing and is in the service's log only. No note holds a value, a digest or a credential.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::keys::{key_path, link_path};
use super::{Editor, Error, document};
use crate::store::{Change, Note, Uncommitted};

/// The most resources that one note names.
const MOST: usize = 100;
/// How many notes are read at a time.
const PAGE: usize = 500;

/// Who makes changes, and by which request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
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
struct Entry {
    #[serde(flatten)]
    origin: Origin,
    /// The paths of the resources that were made, changed or removed.
    changed: BTreeSet<String>,
}

/// The note of a commit.
pub(super) fn note(origin: &Origin, changes: &[Change]) -> String {
    let touched = changes.iter().flat_map(resources).take(MOST);
    json!(Entry { origin: origin.clone(), changed: touched.collect() }).to_string()
}

/// The resources that an entry stands for, as the API calls them.
fn resources(change: &Change) -> Vec<String> {
    if change.path == document::PATH {
        return in_document(change.was.as_deref(), change.becomes.as_deref());
    }
    if let Some(id) = change.path.strip_prefix(&key_path("")) {
        return vec![format!("/apikeys/{id}")];
    }
    let link = change.path.strip_prefix(link_path("", "").trim_end_matches('/'));
    match link.and_then(|link| link.trim_start_matches('/').split_once('/')) {
        Some((plan, key)) => vec![format!("/usageplans/{plan}/keys/{key}")],
        // A digest's entry goes with its key's.
        None => Vec::new(),
    }
}

/// The APIs and plans in which two documents differ.
fn in_document(was: Option<&str>, becomes: Option<&str>) -> Vec<String> {
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
    pub(super) async fn note(&self, changed: String) -> Result<(), Error> {
        let entry = Entry { origin: self.origin.clone(), changed: [changed].into() };
        match self.registry.commit(&[], &json!(entry).to_string()).await {
            // Without a change there is nobody to be in the way.
            Ok(_) | Err(Uncommitted::Conflict) => Ok(()),
            Err(Uncommitted::Store(error)) => Err(error.into()),
        }
    }

    /// Up to `limit` changes from before the one with the id `before`, the newest first, and where
    /// the next page begins if there is one. With `under`, only those whose request or resources
    /// have a path that begins so.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub async fn audit(
        &self,
        before: Option<&str>,
        limit: usize,
        under: &str,
    ) -> Result<(Vec<Value>, Option<String>), Error> {
        let mut before = before.map(str::to_owned);
        let mut page = Vec::new();
        loop {
            let notes = self.registry.notes(before.as_deref(), PAGE).await?;
            let last = notes.len() < PAGE;
            for note in notes {
                if let Some(entry) = told(&note, under) {
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
fn told(note: &Note, under: &str) -> Option<Value> {
    let entry: Entry = serde_json::from_str(&note.text).ok()?;
    let mut paths = entry.changed.iter().chain([&entry.origin.path]);
    paths.any(|path| path.starts_with(under)).then(|| {
        let at =
            i64::try_from(note.at()).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
        let mut told = json!(entry);
        told["id"] = note.id.clone().into();
        told["at"] = at.map(|at| at.to_string()).into();
        told
    })
}

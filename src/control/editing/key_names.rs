//! The index of the names of API keys, and lists of keys by it.
//!
//! A row is the name of a key, a null character and its id, which has none. Each commit changes the
//! rows of its keys, so no editor of keys knows the index. A registry of a release without it gets
//! its rows at the first search by name; until they are there, names are looked for in all keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::file_resources::FileResources;
use super::keys::KeyEditor;
use crate::control::model::{ControlError, EntryPath, KeyRecord};
use crate::store::{EntryChange, IndexChange, Registry};

/// The keys that are read at once while rows are made for all.
const KEYS_PER_BUILD_STEP: usize = 500;

/// True while this node makes the rows of all keys.
#[derive(Default)]
pub(super) struct IndexBuild(AtomicBool);

/// The place of a key in the order by names, and by ids among equal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePosition<'a> {
    /// The name; empty if the key has none.
    pub name: &'a str,
    /// The id.
    pub id: &'a str,
}

impl<'a> NamePosition<'a> {
    /// The place of a key.
    #[must_use]
    pub fn of(key: &'a KeyRecord) -> Self {
        Self { name: key.name().unwrap_or_default(), id: &key.id }
    }

    fn to_row(self) -> String {
        format!("{}\0{}", self.name, self.id)
    }
}

/// The changes of the index that belong to changes of entries.
pub(super) fn index_changes(changes: &[EntryChange]) -> Vec<IndexChange> {
    let mut index = Vec::new();
    for EntryChange { path, was, becomes } in changes {
        if !path.starts_with(EntryPath::KEYS) || was == becomes {
            continue;
        }
        let row = |text: &Option<String>| row_of_entry(text.as_deref()?);
        let (was, becomes) = (row(was), row(becomes));
        if was != becomes {
            index.extend(was.map(IndexChange::Remove));
            index.extend(becomes.map(IndexChange::Add));
        }
    }
    index
}

/// The row of a key's entry; none if the entry cannot be read.
fn row_of_entry(text: &str) -> Option<String> {
    let record = KeyRecord::parse(text).ok()?;
    Some(NamePosition::of(&record).to_row())
}

impl KeyEditor<'_> {
    /// Up to `limit` keys whose names begin with `prefix`, after the one at `after`, by their names
    /// and ids. `None` if there is no index yet; this node then begins to make it.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn list_by_name(
        &self,
        prefix: &str,
        after: Option<NamePosition<'_>>,
        limit: usize,
    ) -> Result<Option<Vec<KeyRecord>>, ControlError> {
        let registry = &self.session.registry;
        let files = self.session.files();
        let mut keys = Vec::new();
        let mut row = after.map(NamePosition::to_row);
        loop {
            let Some(rows) = registry.index_page(prefix, row.as_deref(), limit).await? else {
                self.session.index_build.begin(registry);
                return Ok(None);
            };
            let id_of = |row: &String| row.rsplit_once('\0').map_or("", |(_, id)| id).to_owned();
            let paths: Vec<String> =
                rows.iter().map(|row| EntryPath::Key(&id_of(row)).into()).collect();
            for (row, text) in rows.iter().zip(registry.get_all(&paths).await?) {
                let Some(key) = text.map(|text| KeyRecord::parse(&text)).transpose()? else {
                    continue;
                };
                // A key may have got another name since the rows were read, or while the index was
                // made, and is listed by that one only.
                if NamePosition::of(&key).to_row() == *row && files.key(&key.id).is_none() {
                    keys.push(key);
                }
            }
            let is_last = rows.len() < limit;
            row = rows.into_iter().next_back();
            if is_last || keys.len() >= limit {
                break;
            }
        }
        keys.append(&mut keys_of_file(&files, prefix, after));
        keys.sort_by(|one, other| NamePosition::of(one).cmp(&NamePosition::of(other)));
        keys.truncate(limit);
        Ok(Some(keys))
    }
}

fn keys_of_file(
    files: &FileResources<'_>,
    prefix: &str,
    after: Option<NamePosition<'_>>,
) -> Vec<KeyRecord> {
    let is_selected = |name: &str, id: &str| {
        let is_after = after.is_none_or(|after| NamePosition { name, id } > after);
        is_after && name.starts_with(prefix)
    };
    files.keys(None, usize::MAX, |key| {
        key.name.as_deref().is_some_and(|name| is_selected(name, &key.id))
    })
}

impl IndexBuild {
    /// Begins to make the rows of all keys, unless this node does that already.
    fn begin(self: &Arc<Self>, registry: &Registry) {
        if self.0.swap(true, Ordering::Relaxed) {
            return;
        }
        let (build, registry) = (Arc::clone(self), registry.clone());
        drop(tokio::spawn(async move {
            match add_all_rows(&registry).await {
                Ok(keys) => tracing::info!(keys, "the names of all API keys are in an index now"),
                Err(error) => {
                    tracing::warn!(%error, "the index of the names of API keys is not whole");
                }
            }
            build.0.store(false, Ordering::Relaxed);
        }));
    }
}

/// Adds the rows of all keys to the index; returns their number. Commits in the meantime add theirs.
async fn add_all_rows(registry: &Registry) -> Result<usize, ControlError> {
    let (mut after, mut count) = (None::<String>, 0);
    loop {
        let limit = KEYS_PER_BUILD_STEP;
        let page = registry.page(EntryPath::KEYS, after.as_deref(), limit).await?;
        let rows: Vec<String> = page.iter().filter_map(|(_, text)| row_of_entry(text)).collect();
        let is_last = page.len() < limit;
        if !rows.is_empty() || is_last {
            registry.add_to_index(&rows, is_last).await?;
        }
        count += rows.len();
        match page.into_iter().next_back() {
            Some((path, _)) if !is_last => after = Some(path),
            _ => return Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::KeyAttributes;

    fn entry(name: &str) -> String {
        let tags = [("_custom_id_".to_owned(), "k".to_owned())].into();
        let attributes = KeyAttributes { name: Some(name.into()), tags, ..Default::default() };
        let (record, _) = KeyRecord::new(None, attributes).unwrap();
        record.to_entry().unwrap()
    }

    #[test]
    fn a_commit_changes_the_rows_of_keys_whose_names_it_changes() {
        let change = |path: &str, was: Option<&str>, becomes: Option<&str>| {
            let was = was.map(entry);
            index_changes(&[EntryChange { path: path.into(), was, becomes: becomes.map(entry) }])
        };
        let add = |row: &str| IndexChange::Add(row.into());
        let remove = |row: &str| IndexChange::Remove(row.into());
        assert_eq!(change("key/k", None, Some("a")), [add("a\0k")]);
        assert_eq!(change("key/k", Some("a"), Some("b")), [remove("a\0k"), add("b\0k")]);
        assert_eq!(change("key/k", Some("a"), None), [remove("a\0k")]);
        assert_eq!(change("key/k", Some("a"), Some("a")), []);
        assert_eq!(change("plan-key/basic/k", None, Some("a")), []);
    }
}

//! Pages of API keys: of all, of those on a plan, and of those whose names begin with a text.
//!
//! Keys are read batch by batch until the page is full: a filter may match only a few. Names are
//! looked up in their index, or in all keys while it is being made. Keys are not rendered here.

use super::error::AdminError;
use super::payload::{MAX_PAGE_ENTRIES, PageQuery};
use crate::control::{ControlError, Editor, KeyRecord, NamePosition};

/// The keys of a list.
#[derive(Clone, Copy)]
pub(super) enum KeySource<'q> {
    /// All, by their ids.
    All,
    /// Those on a plan, by their ids.
    OnPlan(&'q str),
    /// Those whose names begin with a text, by their names.
    Named(&'q str),
}

impl KeySource<'_> {
    /// Up to `limit` keys after a position; `None` if they cannot be found by their names now.
    async fn read(
        self,
        editor: &Editor,
        position: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<KeyRecord>>, ControlError> {
        match self {
            Self::All => editor.keys().list(position, limit).await.map(Some),
            Self::OnPlan(plan) => editor.plan_keys().list(plan, position, limit).await.map(Some),
            Self::Named(prefix) => {
                let after = position.and_then(|position| position.split_once(':'));
                let after = after.map(|(id, name)| NamePosition { name, id });
                editor.keys().list_by_name(prefix, after, limit).await
            }
        }
    }

    /// The position of a key in the list, from which the next page goes on.
    fn position(self, key: &KeyRecord) -> String {
        match self {
            Self::All | Self::OnPlan(_) => key.id.clone(),
            // An id has no colon.
            Self::Named(_) => format!("{}:{}", key.id, NamePosition::of(key).name),
        }
    }
}

/// A page of keys.
#[derive(Default)]
pub(super) struct KeyPage {
    pub(super) keys: Vec<KeyRecord>,
    /// The start of the next page, if there is one.
    pub(super) next: Option<String>,
    /// The keys that were read to fill the page.
    pub(super) scanned: usize,
}

/// A page of the selected keys. With a filter at most about `filter` keys are read, so a page that
/// is not full may have a next one.
pub(super) async fn read_page(
    editor: &Editor,
    source: KeySource<'_>,
    page: &PageQuery,
    filter: Option<usize>,
    is_selected: impl Fn(&KeyRecord) -> bool,
) -> Result<KeyPage, AdminError> {
    let page = try_read_page(editor, source, page, filter, is_selected).await?;
    Ok(page.unwrap_or_default())
}

/// A page of the selected keys whose names begin with `name`. While the names have no index, at most
/// about `most` of all keys are read.
pub(super) async fn read_named(
    editor: &Editor,
    name: &str,
    page: &PageQuery,
    (filter, most): (Option<usize>, usize),
    is_selected: impl Fn(&KeyRecord) -> bool,
) -> Result<KeyPage, AdminError> {
    // A list that was begun without the index is continued without it.
    let is_by_id = page.parse()?.0.is_some_and(|position| !position.contains(':'));
    if !is_by_id {
        let named = KeySource::Named(name);
        if let Some(page) = try_read_page(editor, named, page, filter, &is_selected).await? {
            return Ok(page);
        }
    }
    let is_selected = |key: &KeyRecord| has_name(key, Some(name)) && is_selected(key);
    read_page(editor, KeySource::All, page, Some(most), is_selected).await
}

/// True if the name of a key begins with the requested text, if any.
pub(super) fn has_name(key: &KeyRecord, requested: Option<&str>) -> bool {
    requested.is_none_or(|name| key.name().is_some_and(|own| own.starts_with(name)))
}

async fn try_read_page(
    editor: &Editor,
    source: KeySource<'_>,
    page: &PageQuery,
    filter: Option<usize>,
    is_selected: impl Fn(&KeyRecord) -> bool,
) -> Result<Option<KeyPage>, AdminError> {
    let (position, limit) = page.parse()?;
    let mut position = position.map(str::to_owned);
    let (mut keys, mut scanned) = (Vec::new(), 0);
    let batch = if filter.is_some() { MAX_PAGE_ENTRIES + 1 } else { limit + 1 };
    loop {
        let Some(read) = source.read(editor, position.as_deref(), batch).await? else {
            return Ok(None);
        };
        let last = read.len() < batch;
        for key in read {
            let place = source.position(&key);
            if is_selected(&key) {
                if keys.len() == limit {
                    return Ok(Some(KeyPage { keys, next: position, scanned }));
                }
                keys.push(key);
            }
            scanned += 1;
            position = Some(place);
        }
        if last {
            return Ok(Some(KeyPage { keys, next: None, scanned }));
        }
        if filter.is_some_and(|most| scanned >= most) {
            return Ok(Some(KeyPage { keys, next: position, scanned }));
        }
    }
}

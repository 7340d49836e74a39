//! The registry in Redis, shared by all nodes: a hash of entries, a sorted set of their paths, the
//! paths that each revision touched, the notes, the editor whose turn it is, and the index.
//!
//! All keys lie in one slot. Nodes poll for changes a few times a second instead of subscribing: a
//! message can be lost, and a poll that fails is repeated.

use redis::{Cmd, FromRedisValue, Value};

use super::{Redis, StoreError};
use crate::store::registry::{
    ChangesSince, CommitError, CommitNote, EntryChange, IndexChange, MAX_CHANGED_PATHS, MAX_NOTES,
    MAX_TRACKED_REVISIONS,
};

const ENTRIES_KEY: &str = "tg:{registry}";
const PATHS_KEY: &str = "tg:{registry}:paths";
const TOUCHED_KEY: &str = "tg:{registry}:touched";
const REVISION_KEY: &str = "tg:{registry}:revision";
const NOTES_KEY: &str = "tg:{registry}:notes";
const TURN_KEY: &str = "tg:{registry}:turn";
const INDEX_KEY: &str = "tg:{registry}:names";

/// The time in ms for which the commits of other editors are refused after a conflict.
const TURN_MILLIS: u64 = 500;

const COMMIT_SCRIPT: &str = include_str!("../../../lua/registry_commit.lua");
const CHANGES_SCRIPT: &str = include_str!("../../../lua/registry_changes.lua");

impl Redis {
    pub(in crate::store) async fn registry_get(
        &self,
        path: &str,
    ) -> Result<Option<String>, StoreError> {
        self.run_command(ENTRIES_KEY, redis::cmd("HGET").arg(ENTRIES_KEY).arg(path)).await
    }

    pub(in crate::store) async fn registry_get_all(
        &self,
        paths: &[String],
    ) -> Result<Vec<Option<String>>, StoreError> {
        let mut values = Vec::with_capacity(paths.len());
        // In chunks, so that no single command delays other requests for long.
        for chunk in paths.chunks(1_000) {
            let chunk_values: Vec<Option<String>> = self
                .run_command(ENTRIES_KEY, redis::cmd("HMGET").arg(ENTRIES_KEY).arg(chunk))
                .await?;
            values.extend(chunk_values);
        }
        Ok(values)
    }

    pub(in crate::store) async fn registry_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let range = range_command(PATHS_KEY, prefix, after, limit);
        let paths: Vec<String> = self.run_command(PATHS_KEY, &range).await?;
        let values = self.registry_get_all(&paths).await?;
        // A path that was removed between the two commands has no value.
        Ok(paths.into_iter().zip(values).filter_map(|(path, value)| Some((path, value?))).collect())
    }

    pub(in crate::store) async fn registry_index_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let first = range_command(INDEX_KEY, "", None, 1);
        let first: Vec<String> = self.run_command(INDEX_KEY, &first).await?;
        if first.first().is_none_or(|row| !row.is_empty()) {
            return Ok(None);
        }
        // Behind the empty row.
        let range = range_command(INDEX_KEY, prefix, Some(after.unwrap_or(prefix)), limit);
        Ok(Some(self.run_command(INDEX_KEY, &range).await?))
    }

    pub(in crate::store) async fn registry_add_to_index(
        &self,
        rows: &[String],
        completes: bool,
    ) -> Result<(), StoreError> {
        let mut add = redis::cmd("ZADD");
        add.arg(INDEX_KEY);
        for row in rows.iter().map(String::as_str).chain(completes.then_some("")) {
            add.arg(0).arg(row);
        }
        self.run_command(INDEX_KEY, &add).await
    }

    pub(in crate::store) async fn registry_commit(
        &self,
        changes: &[EntryChange],
        index: &[IndexChange],
        notes: &[String],
        editor: Option<&str>,
    ) -> Result<u64, CommitError> {
        let mut commit = redis::cmd("EVAL");
        commit
            .arg(COMMIT_SCRIPT)
            .arg(7)
            .arg(ENTRIES_KEY)
            .arg(PATHS_KEY)
            .arg(TOUCHED_KEY)
            .arg(REVISION_KEY)
            .arg(NOTES_KEY)
            .arg(TURN_KEY)
            .arg(INDEX_KEY);
        commit.arg(MAX_TRACKED_REVISIONS).arg(MAX_NOTES);
        commit.arg(editor.unwrap_or("")).arg(TURN_MILLIS);
        let values = changes.iter().flat_map(|change| [&change.was, &change.becomes]);
        let exists = values.map(|value| if value.is_some() { '1' } else { '0' });
        let is_added = |row: &IndexChange| matches!(row, IndexChange::Add(_));
        let added = index.iter().map(|row| if is_added(row) { '1' } else { '0' });
        commit.arg(exists.collect::<String>()).arg(notes.len());
        commit.arg(added.collect::<String>()).arg(notes);
        for EntryChange { path, was, becomes } in changes {
            commit
                .arg(path)
                .arg(was.as_deref().unwrap_or(""))
                .arg(becomes.as_deref().unwrap_or(""));
        }
        for IndexChange::Add(row) | IndexChange::Remove(row) in index {
            commit.arg(row);
        }
        match self.run_command(ENTRIES_KEY, &commit).await? {
            0 => Err(CommitError::Conflict),
            revision => Ok(revision),
        }
    }

    pub(in crate::store) async fn registry_notes(
        &self,
        before: Option<(u64, u64)>,
        limit: usize,
    ) -> Result<Vec<CommitNote>, StoreError> {
        let before = before.map_or("+".to_owned(), |(at, number)| format!("({at}-{number}"));
        let mut range = redis::cmd("XREVRANGE");
        range.arg(NOTES_KEY).arg(before).arg("-").arg("COUNT").arg(limit);
        let notes: Vec<(String, (String, String))> = self.run_command(NOTES_KEY, &range).await?;
        Ok(notes.into_iter().map(|(id, (_, text))| CommitNote { id, text }).collect())
    }

    pub(in crate::store) async fn registry_changes(
        &self,
        since: u64,
    ) -> Result<ChangesSince, StoreError> {
        let mut command = redis::cmd("EVAL");
        command
            .arg(CHANGES_SCRIPT)
            .arg(2)
            .arg(TOUCHED_KEY)
            .arg(REVISION_KEY)
            .arg(since)
            .arg(MAX_TRACKED_REVISIONS)
            .arg(MAX_CHANGED_PATHS);
        let reply: Vec<Value> = self.run_command(REVISION_KEY, &command).await?;
        let mut reply = reply.into_iter();
        let (revision, known): (u64, u64) =
            (decode_value(reply.next())?, decode_value(reply.next())?);
        let paths = reply.map(|path| decode_value(Some(path)));
        let paths = (known == 1).then(|| paths.collect::<Result<_, _>>()).transpose()?;
        Ok(ChangesSince { revision, paths })
    }
}

/// Returns up to `limit` texts of a sorted set that begin with `prefix` and come after `after`.
fn range_command(key: &str, prefix: &str, after: Option<&str>, limit: usize) -> Cmd {
    let from = after.map_or_else(|| format!("[{prefix}"), |after| format!("({after}"));
    // Texts are UTF-8, in which no byte is 255.
    let to = [b"(", prefix.as_bytes(), b"\xff"].concat();
    let mut range = redis::cmd("ZRANGEBYLEX");
    range.arg(key).arg(from).arg(to).arg("LIMIT").arg(0).arg(limit);
    range
}

/// Decodes the next value of a reply.
pub(super) fn decode_value<T: FromRedisValue>(value: Option<Value>) -> Result<T, StoreError> {
    let value = value.ok_or_else(|| StoreError::BadReply("the reply is too short".into()))?;
    T::from_redis_value(value).map_err(|error| StoreError::BadReply(error.to_string()))
}

//! Rotates keys: a key gets a new value, and the old one is accepted for an overlap.

use serde::Deserialize;

use super::conflict_retry::ConflictRetry;
use super::keys::KeyEditor;
use super::session::{EditSession, creation, replacement};
use crate::control::model::{ControlError, DigestEntry, EntryPath, KeyRecord, new_key_value};
use crate::digest::digest_secret;
use crate::store::EntryChange;

/// The longest overlap in seconds: a year.
const MAX_OVERLAP_SECS: u64 = 366 * 86_400;

/// A request for a rotation.
///
/// It has no `Debug`: the value is in clear text.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateKey {
    /// The time for which requests with the old value are accepted, in seconds; 0 ends it at once.
    overlap_seconds: u64,
    /// The new value; random if absent.
    value: Option<String>,
}

/// Gives keys new values.
pub struct KeyRotator<'e> {
    session: &'e EditSession,
}

impl<'e> KeyRotator<'e> {
    pub(super) fn new(session: &'e EditSession) -> Self {
        Self { session }
    }

    /// Gives a key a new value, which is returned only here. If a rotation's overlap has not ended
    /// yet, the value that it replaced is refused from now on.
    ///
    /// # Errors
    /// If there is no such key, the value is invalid or another key's, or the registry is
    /// unreachable.
    pub async fn rotate(
        &self,
        id: &str,
        rotation: RotateKey,
    ) -> Result<(KeyRecord, String), ControlError> {
        let RotateKey { overlap_seconds, value } = rotation;
        if overlap_seconds > MAX_OVERLAP_SECS {
            return Err(ControlError::BadRequest(
                "overlapSeconds is at most 31622400, a year".into(),
            ));
        }
        let value = new_key_value(value)?;
        let keys = KeyEditor::new(self.session);
        let mut retry = ConflictRetry::start();
        loop {
            let (was, mut record) = keys.load(id).await?;
            let digest = digest_secret(&value);
            let from_file = self.session.live.catalog().key_by_digest(&digest).is_some();
            if from_file || keys.id_by_digest(digest).await?.is_some() {
                return Err(ControlError::key_exists());
            }
            let before = record.clone();
            record.replace_value(&value, overlap_seconds);
            record.sealed = self.session.seal.seal(id, &value);
            let mut changes = digest_changes(&before, &record);
            changes.push(replacement(EntryPath::Key(id), was, record.to_entry()?));
            if self.session.commit(&changes).await? {
                return Ok((record, value));
            }
            retry.pause().await?;
        }
    }
}

/// The changes of the digests' entries by which a key's values become those of `after`.
fn digest_changes(before: &KeyRecord, after: &KeyRecord) -> Vec<EntryChange> {
    let find = |record: &KeyRecord, sha256: &str| {
        let mut entries = record.digest_entries();
        entries.find(|(other, _)| *other == sha256).map(|(_, entry)| entry.to_string())
    };
    let mut changes: Vec<EntryChange> = before
        .digest_entries()
        .map(|(sha256, was)| EntryChange {
            path: EntryPath::Digest(sha256).into(),
            was: Some(was.to_string()),
            becomes: find(after, sha256),
        })
        .collect();
    let new = after.digest_entries().filter(|(sha256, _)| find(before, sha256).is_none());
    let new = new.map(|(sha256, entry): (&str, DigestEntry<'_>)| {
        creation(EntryPath::Digest(sha256), entry.to_string())
    });
    changes.extend(new);
    changes
}

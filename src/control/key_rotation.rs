//! Rotating a key: a new value, beside which the old one is taken for a while longer.
//!
//! The entry of a digest leads to its key; that of a value on its way out also says until when. So
//! every node knows the end beforehand, and needs no message when it comes.

use serde::{Deserialize, Serialize};

use super::editor::{Editor, MAX_COMMIT_ATTEMPTS, too_many_conflicts};
use super::key_record::validate_key_value;
use super::keys::{digest_path, key_path, removal, serialize_record};
use super::{ControlError, KeyRecord, now_secs, random_alphanumeric};
use crate::digest::{digest_key, encode_hex};
use crate::store::EntryChange;

/// The longest overlap in seconds: a year.
const MAX_OVERLAP_SECS: u64 = 366 * 86_400;

/// What a client says of a rotation.
///
/// Not Debug: the value stands here in the clear.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateKey {
    /// How long the old value is taken still; 0 ends it at once.
    overlap_seconds: u64,
    /// The new secret; made where absent.
    value: Option<String>,
}

/// A value on its way out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RetiringValue {
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Until when it is taken, in seconds since 1970.
    pub until: u64,
}

impl RetiringValue {
    /// What its digest's entry says.
    pub(super) fn to_digest_entry(&self, id: &str) -> String {
        format!("{id} {}", self.until)
    }
}

/// What the entry of a digest says: the key, and until when in seconds since 1970 if not for good.
pub(super) fn parse_digest_entry(entry: &str) -> (&str, Option<u64>) {
    match entry.split_once(' ') {
        None => (entry, None),
        // An end that cannot be read has come.
        Some((id, until)) => (id, Some(until.parse().unwrap_or(0))),
    }
}

impl Editor {
    /// Gives a key a new value, which is told this once. Of values on their way out only the last is
    /// taken still.
    ///
    /// # Errors
    /// Where there is no such key, the value cannot be one or is taken, or the registry is lost.
    pub async fn rotate_key(
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
        let value =
            value.filter(|value| !value.is_empty()).unwrap_or_else(|| random_alphanumeric(40));
        validate_key_value(&value)?;
        let sha256 = encode_hex(&digest_key(&value));
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let (was, mut record) = self.load_key(id).await?;
            let known = self.live.catalog().key_by_digest(&digest_key(&value)).is_some();
            if known || self.key_id_by_digest(digest_key(&value)).await?.is_some() {
                return Err(ControlError::Conflict("API Key already exists".into()));
            }
            let old = RetiringValue { sha256: record.sha256, until: now_secs() + overlap_seconds };
            let mut changes = vec![
                EntryChange {
                    path: digest_path(&old.sha256),
                    was: Some(id.into()),
                    becomes: (overlap_seconds > 0).then(|| old.to_digest_entry(id)),
                },
                EntryChange { path: digest_path(&sha256), was: None, becomes: Some(id.into()) },
            ];
            changes.extend(
                record
                    .retiring
                    .take()
                    .map(|older| removal(digest_path(&older.sha256), older.to_digest_entry(id))),
            );
            record.retiring = (overlap_seconds > 0).then_some(old);
            record.sha256 = sha256.clone();
            record.sealed = self.seal.seal(id, &value);
            record.touch();
            let becomes = Some(serialize_record(&record)?);
            changes.push(EntryChange { path: key_path(id), was: Some(was), becomes });
            if self.commit(&changes).await? {
                return Ok((record, value));
            }
        }
        Err(too_many_conflicts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digests_entry_is_read_as_it_was_written() {
        let retiring = RetiringValue { sha256: String::new(), until: 1_700_000_000 };
        assert_eq!(parse_digest_entry(&retiring.to_digest_entry("k")), ("k", Some(1_700_000_000)));
        assert_eq!(parse_digest_entry("k"), ("k", None));
        assert_eq!(parse_digest_entry("k soon"), ("k", Some(0)), "what cannot be read is over");
    }
}

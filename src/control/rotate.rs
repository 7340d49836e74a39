//! Rotating a key: a new value, beside which the old one is taken for a while longer.
//!
//! The entry of a digest leads to its key; that of a value on its way out also says until when. So
//! every node knows the end beforehand, and needs no message when it comes.

use serde::{Deserialize, Serialize};

use super::api_key::sound_value;
use super::editor::{Editor, TRIES, too_busy};
use super::keys::{digest_path, gone, key_path, text};
use super::{Error, KeyRecord, fresh_id, now};
use crate::catalog::{digest_key, encode_hex};
use crate::store::Change;

/// The longest overlap in seconds: a year.
const LONGEST: u64 = 366 * 86_400;

/// What a client says of a rotation.
///
/// Not Debug: the value stands here in the clear.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotation {
    /// How long the old value is taken still; 0 ends it at once.
    overlap_seconds: u64,
    /// The new secret; made where absent.
    value: Option<String>,
}

/// A value on its way out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Retiring {
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Until when it is taken, in seconds since 1970.
    pub until: u64,
}

impl Retiring {
    /// What its digest's entry says.
    pub(super) fn entry(&self, id: &str) -> String {
        format!("{id} {}", self.until)
    }
}

/// What the entry of a digest says: the key, and until when in seconds since 1970 if not for good.
pub(super) fn holder(entry: &str) -> (&str, Option<u64>) {
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
        rotation: Rotation,
    ) -> Result<(KeyRecord, String), Error> {
        let Rotation { overlap_seconds, value } = rotation;
        if overlap_seconds > LONGEST {
            return Err(Error::BadRequest("overlapSeconds is at most 31622400, a year".into()));
        }
        let value = value.filter(|value| !value.is_empty()).unwrap_or_else(|| fresh_id(40));
        sound_value(&value)?;
        let sha256 = encode_hex(&digest_key(&value));
        for _ in 0..TRIES {
            let (was, mut record) = self.read_key(id).await?;
            let known = self.live.catalog().key_by_digest(&digest_key(&value)).is_some();
            if known || self.id_of(digest_key(&value)).await?.is_some() {
                return Err(Error::Conflict("API Key already exists".into()));
            }
            let old = Retiring { sha256: record.sha256, until: now() + overlap_seconds };
            let mut changes = vec![
                Change {
                    path: digest_path(&old.sha256),
                    was: Some(id.into()),
                    becomes: (overlap_seconds > 0).then(|| old.entry(id)),
                },
                Change { path: digest_path(&sha256), was: None, becomes: Some(id.into()) },
            ];
            changes.extend(
                record
                    .retiring
                    .take()
                    .map(|older| gone(digest_path(&older.sha256), older.entry(id))),
            );
            record.retiring = (overlap_seconds > 0).then_some(old);
            record.sha256 = sha256.clone();
            record.sealed = self.seal.seal(id, &value);
            record.touch();
            let becomes = Some(text(&record)?);
            changes.push(Change { path: key_path(id), was: Some(was), becomes });
            if self.commit(&changes).await? {
                return Ok((record, value));
            }
        }
        Err(too_busy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digests_entry_is_read_as_it_was_written() {
        let retiring = Retiring { sha256: String::new(), until: 1_700_000_000 };
        assert_eq!(holder(&retiring.entry("k")), ("k", Some(1_700_000_000)));
        assert_eq!(holder("k"), ("k", None));
        assert_eq!(holder("k soon"), ("k", Some(0)), "what cannot be read is over");
    }
}

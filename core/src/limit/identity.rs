//! Identities of subjects and counters: digests over length-prefixed parts.
//!
//! No two subjects share a counter, however their parts are spelt, and no secret, address or path
//! appears in a Redis key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

use super::Unit;
use crate::algorithm::{Algorithm, Counting as _, RowKind};

/// The first 128 bits of the SHA-256 over `parts`, each behind its length.
fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize()[..16]);
    short
}

/// 128 bits in base64.
const TAG_DIGITS: usize = 22;

/// The owner of the counters that a check charges: an API key, a stage, a policy's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    tag: [u8; 16],
    part: Option<[u8; 16]>,
}

impl Subject {
    /// The API key with this id (never its secret value).
    #[must_use]
    pub fn api_key(id: &str) -> Self {
        Self::from_parts(&[b"key", id.as_bytes()])
    }

    /// A stage of an API, all clients together.
    #[must_use]
    pub fn stage(api: &str, stage: &str) -> Self {
        Self::from_parts(&[b"stage", api.as_bytes(), stage.as_bytes()])
    }

    /// The key that a caller named under a policy.
    #[must_use]
    pub fn policy(policy: &str, key: &str) -> Self {
        Self::from_parts(&[b"policy", policy.as_bytes(), key.as_bytes()])
    }

    /// A descriptor of Envoy's, entry by entry. An entry may have a pattern, under which all of its
    /// values count as one.
    #[must_use]
    pub fn descriptor<'a>(
        domain: &str,
        entries: impl Iterator<Item = ((&'a str, &'a str), Option<&'a str>)>,
    ) -> Self {
        let mut parts = SmallVec::<[&[u8]; 16]>::from_slice(&[b"envoy", domain.as_bytes()]);
        for ((key, value), pattern) in entries {
            let (kind, value): (&[u8], _) = match pattern {
                None => (b"=", value),
                Some(pattern) => (b"*", pattern),
            };
            parts.extend_from_slice(&[key.as_bytes(), kind, value.as_bytes()]);
        }
        Self::from_parts(&parts)
    }

    fn from_parts(parts: &[&[u8]]) -> Self {
        Self { tag: digest(parts), part: None }
    }

    /// The subject with these digests; see [`Subject::digests`].
    #[must_use]
    pub const fn from_digests(tag: [u8; 16], part: Option<[u8; 16]>) -> Self {
        Self { tag, part }
    }

    /// The digest of its hash tag, and its own one if it is a part of the subject of that tag.
    #[must_use]
    pub const fn digests(&self) -> ([u8; 16], Option<[u8; 16]>) {
        (self.tag, self.part)
    }

    /// The most parts of a subject that [`Subject::method`] makes.
    pub const METHOD_PARTS: u16 = 1024;

    /// The part of this subject that counts a method which no catalog lists. It has counters of its
    /// own, in the same slot of a Redis Cluster.
    ///
    /// The method's digest selects one of [`Subject::METHOD_PARTS`] parts, since clients invent
    /// paths: without that bound each path would be one more Redis key, and one more budget. A path
    /// has the same part on every node, and no node has to remember it.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        let [low, high, ..] = digest(&[b"method", method.as_bytes()]);
        let part = u16::from_le_bytes([low, high]) % Self::METHOD_PARTS;
        Self { part: Some(digest(&[&self.tag, &part.to_le_bytes()])), ..self }
    }

    /// The hash tag of its Redis key and of its parts' keys: keys with the same hash tag lie in the
    /// same slot of a Redis Cluster.
    #[must_use]
    pub fn hash_tag(&self) -> [u8; TAG_DIGITS] {
        let mut digits = [0; TAG_DIGITS];
        let encoded_len = URL_SAFE_NO_PAD.encode_slice(self.tag, &mut digits);
        debug_assert_eq!(encoded_len, Ok(TAG_DIGITS));
        digits
    }

    /// The 128 bits of its hash tag.
    #[must_use]
    pub(super) fn tag(&self) -> [u8; 16] {
        self.tag
    }

    /// True if both have the same hash tag.
    #[must_use]
    pub fn has_same_hash_tag(&self, other: &Self) -> bool {
        self.tag == other.tag
    }

    /// The name of its Redis key: `tg:{DIGEST}`, or `tg:{DIGEST}:DIGEST` for a part.
    #[must_use]
    pub fn redis_key(&self) -> String {
        let mut key = String::with_capacity(50);
        self.write_redis_key(&mut key);
        key
    }

    /// The subject with this Redis key, as [`Subject::redis_key`] writes it.
    #[must_use]
    pub fn from_redis_key(key: &str) -> Option<Self> {
        let decode = |digits: &str| URL_SAFE_NO_PAD.decode(digits).ok()?.try_into().ok();
        let (tag, part) = key.strip_prefix("tg:{")?.split_once('}')?;
        let part = match part {
            "" => None,
            part => Some(decode(part.strip_prefix(':')?)?),
        };
        Some(Self { tag: decode(tag)?, part })
    }

    /// Appends the name of its Redis key.
    pub fn write_redis_key(&self, out: &mut String) {
        out.push_str("tg:{");
        URL_SAFE_NO_PAD.encode_string(self.tag, out);
        out.push('}');
        if let Some(part) = self.part {
            out.push(':');
            URL_SAFE_NO_PAD.encode_string(part, out);
        }
    }

    /// Appends the name of the Redis key of its days: `tg:{DIGEST}:usage`.
    pub fn write_usage_key(&self, out: &mut String) {
        self.write_redis_key(out);
        out.push_str(":usage");
    }

    /// The 128 bits of its digest.
    #[must_use]
    pub fn digest(&self) -> [u8; 16] {
        self.part.unwrap_or(self.tag)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redis_key())
    }
}

/// The identity of a counter among those of its subject: 40 bits of a digest, above the kind of its
/// row (5 bits), above a byte that is 0 here and the length of the body in a stored row's head. All
/// 53 bits are exact in a double.
///
/// The digest is over the limit's name, its unit, and what its algorithm adds: for a quota its
/// period, time zone and start day. Sizes are no part of it: a changed limit keeps its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(u64);

impl RowId {
    /// The length in bytes, in rows and in arguments of scripts.
    pub const LEN: usize = 7;
    const KIND_SHIFT: u32 = 8;
    const DIGEST_SHIFT: u32 = 13;

    pub(super) fn for_limit(name: &str, unit: &Unit, algorithm: &Algorithm) -> Self {
        let identity = algorithm.identity();
        let mut parts = SmallVec::<[&[u8]; 8]>::from_slice(&[
            b"limit",
            name.as_bytes(),
            unit.as_str().as_bytes(),
        ]);
        parts.extend(identity.iter().map(Vec::as_slice));
        Self::from_digest(digest(&parts), algorithm.row_kind())
    }

    /// The row of a subject's reservation numbers: it has no digest.
    pub const RESERVATION_NUMBERS: Self =
        Self((RowKind::RESERVATION_NUMBERS.get() as u64) << Self::KIND_SHIFT);

    /// The row of a plan's meter, whose daily quota is `algorithm`; its time zone is no part of it.
    pub(super) fn for_meter(plan: &str, unit: &Unit, algorithm: &Algorithm) -> Self {
        let bytes = digest(&[b"meter", plan.as_bytes(), unit.as_str().as_bytes()]);
        Self::from_digest(bytes, algorithm.row_kind())
    }

    fn from_digest(digest: [u8; 16], kind: RowKind) -> Self {
        let mut short = [0; 8];
        short[..5].copy_from_slice(&digest[..5]);
        Self(u64::from_le_bytes(short) << Self::DIGEST_SHIFT).with_kind(kind)
    }

    /// The id as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The bytes, little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes.copy_from_slice(&self.0.to_le_bytes()[..Self::LEN]);
        bytes
    }

    /// The id and the length of the body in the head of a stored row.
    #[must_use]
    pub fn from_head(head: [u8; Self::LEN]) -> (Self, usize) {
        let mut id = [0; 8];
        id[1..Self::LEN].copy_from_slice(&head[1..]);
        (Self(u64::from_le_bytes(id)), head[0].into())
    }

    /// The kind of the row.
    #[must_use]
    pub fn kind(self) -> RowKind {
        RowKind::new(self.0.to_le_bytes()[1] & RowKind::MAX)
    }

    /// The same digest with another kind, for a row that is kept beside the counter.
    #[must_use]
    pub fn with_kind(self, kind: RowKind) -> Self {
        let digest = self.0 >> Self::DIGEST_SHIFT << Self::DIGEST_SHIFT;
        Self(digest | u64::from(kind.get()) << Self::KIND_SHIFT)
    }
}

/// One counter in all the service: a subject's digest and the row of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterId {
    subject: [u8; 16],
    row: RowId,
}

impl CounterId {
    /// The counter of a subject in this row.
    #[must_use]
    pub fn new(subject: Subject, row: RowId) -> Self {
        Self { subject: subject.digest(), row }
    }

    /// The digest of the subject.
    #[must_use]
    pub fn subject(&self) -> [u8; 16] {
        self.subject
    }

    /// The row.
    #[must_use]
    pub fn row(&self) -> RowId {
        self.row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_subjects_share_a_key_however_their_parts_are_spelt() {
        let subjects = [
            Subject::policy("a", "b:c"),
            Subject::policy("a:b", "c"),
            Subject::policy("ab", "c"),
            Subject::policy("a", "bc"),
            Subject::policy("", "abc"),
            Subject::stage("a", "bc"),
            Subject::api_key("abc"),
            Subject::api_key("abc").method("GET /"),
            Subject::api_key("abc").method("GET /a"),
            Subject::api_key("ab").method("GET /"),
        ];
        for (i, one) in subjects.iter().enumerate() {
            for other in &subjects[..i] {
                assert_ne!(one.redis_key(), other.redis_key());
                assert_ne!(one.digest(), other.digest());
            }
        }
    }

    #[test]
    fn a_pattern_that_counts_all_its_values_is_not_the_value_that_reads_like_it() {
        let subject = |pattern| Subject::descriptor("d", std::iter::once((("key", "a*"), pattern)));
        assert_ne!(subject(None), subject(Some("a*")));
        assert_eq!(
            subject(Some("a*")),
            Subject::descriptor("d", [(("key", "ab"), Some("a*"))].into_iter())
        );
    }

    #[test]
    fn however_many_paths_are_invented_a_subject_has_a_thousand_parts() {
        let (one, other) = (Subject::api_key("one"), Subject::api_key("other"));
        let parts = |subject: Subject| {
            let parts = (0..100_000).map(move |number| subject.method(&format!("GET /{number}")));
            parts.map(|part| part.digest()).collect::<std::collections::HashSet<_>>()
        };
        let (of_one, of_other) = (parts(one), parts(other));
        assert_eq!(of_one.len(), usize::from(Subject::METHOD_PARTS));
        assert!(of_one.is_disjoint(&of_other), "no two subjects share a part");
    }

    #[test]
    fn a_part_has_its_subjects_hash_tag() {
        let subject = Subject::api_key("demo");
        let part = subject.method("GET /");
        assert!(part.redis_key().starts_with(&format!("{}:", subject.redis_key())));
        assert!(
            part.has_same_hash_tag(&subject) && !part.has_same_hash_tag(&Subject::api_key("other"))
        );
        let tag = String::from_utf8(part.hash_tag().to_vec()).unwrap();
        assert_eq!(format!("tg:{{{tag}}}"), subject.redis_key());
        for subject in [subject, part] {
            assert_eq!(Subject::from_redis_key(&subject.redis_key()), Some(subject));
        }
        assert_eq!(Subject::from_redis_key("tg:{short}"), None);
    }
}

//! The key whose count a charge is: an API key by its id, or what a policy counts.
//!
//! No value of an API key is known here.

use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::catalog::{ApiKey, RequestView};
use crate::limit::{Charge, Subject};

/// The most bytes of a policy's key that are kept.
const MAX_NAME_BYTES: usize = 128;

/// The name of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum KeyName {
    /// The id of an API key.
    KeyId(Arc<str>),
    /// The key that a policy counts, as the caller or the catalog has it; a long one is cut.
    Policy(KeyText),
    /// A check without an API key, at a limit that all clients of a stage share.
    Nobody,
}

impl KeyName {
    /// A key that a policy counts.
    pub(super) fn of_policy(key: &str) -> Self {
        Self::Policy(KeyText::cut(key))
    }
}

/// A text that is not allocated if it is as short as an address or a UUID: with many keys, nearly
/// every check names one that is new to the frequent keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyText(SmallVec<[u8; 40]>);

impl KeyText {
    fn cut(name: &str) -> Self {
        if name.len() <= MAX_NAME_BYTES {
            return Self(SmallVec::from_slice(name.as_bytes()));
        }
        let end = name.floor_char_boundary(MAX_NAME_BYTES);
        Self(SmallVec::from_vec(format!("{}…", &name[..end]).into_bytes()))
    }
}

impl Deref for KeyText {
    type Target = str;

    fn deref(&self) -> &str {
        // It was made of a string.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The key that a charge is counted for: 64 bits of the digest of its subject, and its name.
///
/// Charges to limits that all clients share are those of the client's API key.
pub(super) fn key_of<'c>(
    key: Option<&'c Arc<ApiKey>>,
    request: RequestView<'c>,
    charge: &'c Charge,
) -> (u64, impl FnOnce() -> KeyName + use<'c>) {
    let own = key.filter(|key| charge.subject.has_same_hash_tag(&key.subject));
    let policy = match own {
        Some(_) => None,
        None => charge.limit.label().strip_prefix("policy:"),
    };
    let digest = match (policy, own.or(key)) {
        (Some(_), _) => short_digest(&charge.subject),
        (None, Some(key)) => short_digest(&key.subject),
        (None, None) => 0,
    };
    let name = move || match (policy, key) {
        (Some(label), key) => policy_key(label, charge.subject, key, request),
        (None, Some(key)) => KeyName::KeyId(Arc::clone(&key.id)),
        (None, None) => KeyName::Nobody,
    };
    (digest, name)
}

/// The key that a policy's limit counts, from the request or the API key's own policies; `label`
/// begins with the policy's name.
fn policy_key(
    label: &str,
    subject: Subject,
    key: Option<&Arc<ApiKey>>,
    request: RequestView<'_>,
) -> KeyName {
    let is_same = |name: &str| {
        label.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let named = request.policies.iter().filter(|entry| is_same(entry.policy));
    let named = named.map(|entry| entry.key);
    let policy = || label.split('/').next().unwrap_or(label);
    let own = key.and_then(|key| key.policies.key_of(policy()));
    let all = || named.clone().chain(own);
    // An address has more than one spelling, of which none need be that of its subject. A digest is
    // only made to choose between keys.
    let has_choice = all().nth(1).is_some();
    let exact = || all().find(|key| Subject::policy(policy(), key) == subject);
    let key = if has_choice { exact() } else { None };
    key.or_else(|| all().next()).map_or(KeyName::Nobody, KeyName::of_policy)
}

fn short_digest(subject: &Subject) -> u64 {
    let (tag, _) = subject.digests();
    tag.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_is_cut_between_two_characters() {
        assert_eq!(&*KeyText::cut("203.0.113.7"), "203.0.113.7");
        let name = KeyText::cut(&"ö".repeat(500));
        assert!(name.ends_with('…') && name.len() <= MAX_NAME_BYTES + 3, "{}", &*name);
    }
}

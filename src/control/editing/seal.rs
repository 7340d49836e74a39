//! Encryption of API keys' values, for operators that need to read them again.
//!
//! AES-256-GCM with a random nonce for each value. The key's id is the associated data, so a value
//! cannot be moved to another key. The length of a value is not hidden from a reader of the store.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Encrypts with the first of its keys, and decrypts with any of them.
#[derive(Default)]
pub struct Seal(Vec<LessSafeKey>);

impl Seal {
    /// A seal with these keys; without a key it encrypts nothing.
    #[must_use]
    pub fn new(keys: &[[u8; 32]]) -> Self {
        let key =
            |bytes: &[u8; 32]| UnboundKey::new(&AES_256_GCM, bytes).ok().map(LessSafeKey::new);
        Self(keys.iter().filter_map(key).collect())
    }

    /// True if it has a key.
    pub(super) fn has_keys(&self) -> bool {
        !self.0.is_empty()
    }

    /// Encrypts the value of the API key with this id: nonce, ciphertext and tag in base64.
    pub(super) fn seal(&self, id: &str, value: &str) -> Option<String> {
        let key = self.0.first()?;
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut sealed = value.as_bytes().to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(unique, Aad::from(id), &mut sealed).ok()?;
        Some(STANDARD_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    /// Decrypts the value of the API key with this id; `None` if no key of this seal can.
    pub(super) fn open(&self, id: &str, sealed: &str) -> Option<String> {
        let bytes = STANDARD_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        self.0.iter().find_map(|key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut sealed = sealed.to_vec();
            let value = key.open_in_place(nonce, Aad::from(id), &mut sealed).ok()?;
            String::from_utf8(value.to_vec()).ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_encrypts_and_every_key_decrypts_its_own_unaltered_values() {
        let (old, new) = (Seal::new(&[[1; 32]]), Seal::new(&[[2; 32], [1; 32]]));
        let sealed = old.seal("k", "a value of a key").unwrap();
        assert_ne!(old.seal("k", "a value of a key").unwrap(), sealed, "each has its own nonce");
        assert!(!sealed.contains("value"));
        let opened = Some("a value of a key".to_owned());
        assert_eq!((old.open("k", &sealed), new.open("k", &sealed)), (opened.clone(), opened));
        let newer = new.seal("k", "another").unwrap();
        assert_eq!(old.open("k", &newer), None, "the old key does not encrypt");
        assert_eq!(new.open("other", &sealed), None, "it was encrypted for another API key");
        let other = if sealed[20..].starts_with('+') { "-" } else { "+" };
        assert_eq!(new.open("k", &sealed.replace(&sealed[20..21], other)), None);
        for broken in ["", "AAAA", "no base64!", &sealed[..20]] {
            assert_eq!(new.open("k", broken), None, "{broken}");
        }
        assert_eq!(Seal::default().seal("k", "value"), None);
    }
}

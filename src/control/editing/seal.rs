//! The values of API keys under encryption, for operators who want to read them again.
//!
//! AES-256-GCM with a random nonce for each value; the key's id is sealed in, so that no value can be
//! passed off as another key's. Whoever has the store but not the encryption key learns a value's
//! length.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Seals values with the first of its keys, and opens what any of them has sealed.
#[derive(Default)]
pub struct Seal(Vec<LessSafeKey>);

impl Seal {
    /// A seal of these keys; without any it seals nothing.
    #[must_use]
    pub fn new(keys: &[[u8; 32]]) -> Self {
        let key =
            |bytes: &[u8; 32]| UnboundKey::new(&AES_256_GCM, bytes).ok().map(LessSafeKey::new);
        Self(keys.iter().filter_map(key).collect())
    }

    /// Whether it has any key.
    pub(super) fn has_keys(&self) -> bool {
        !self.0.is_empty()
    }

    /// The value of the key with this id, sealed: nonce, ciphertext and tag in base64.
    pub(super) fn seal(&self, id: &str, value: &str) -> Option<String> {
        let key = self.0.first()?;
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut sealed = value.as_bytes().to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(unique, Aad::from(id), &mut sealed).ok()?;
        Some(STANDARD_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    /// What was sealed for this id; nothing where no key of this seal has sealed it.
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
    fn the_first_key_seals_and_all_open_what_is_whole_and_their_own() {
        let (old, new) = (Seal::new(&[[1; 32]]), Seal::new(&[[2; 32], [1; 32]]));
        let sealed = old.seal("k", "a value of a key").unwrap();
        assert_ne!(old.seal("k", "a value of a key").unwrap(), sealed, "each has its own nonce");
        assert!(!sealed.contains("value"));
        let opened = Some("a value of a key".to_owned());
        assert_eq!((old.open("k", &sealed), new.open("k", &sealed)), (opened.clone(), opened));
        let newer = new.seal("k", "another").unwrap();
        assert_eq!(old.open("k", &newer), None, "the old key is not the one that seals");
        assert_eq!(new.open("other", &sealed), None, "it was sealed for another key");
        assert_eq!(new.open("k", &sealed.replace(&sealed[20..21], "+")), None);
        for broken in ["", "AAAA", "no base64!", &sealed[..20]] {
            assert_eq!(new.open("k", broken), None, "{broken}");
        }
        assert_eq!(Seal::default().seal("k", "value"), None);
    }
}

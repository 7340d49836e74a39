//! Settings that hold a secret. Their `Debug` output does not show it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::digest::decode_hex;

/// The error of a setting that was set, but to nothing: without its secret the service would be
/// open.
const NO_SECRET: &str = "has no secret in it; write one, or leave the setting out";

/// The address of the store as written. It may hold a password, which `Debug` does not show.
#[derive(Clone)]
pub struct StoreAddress(String);

impl StoreAddress {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The whole address, with its password.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns true if counters are kept in this process.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        self.0 == "memory"
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split("://").next().unwrap_or_default())
    }
}

/// Tokens of which a request must send one, kept as their SHA-256.
#[derive(Clone)]
pub struct BearerTokens(Vec<[u8; 32]>);

impl BearerTokens {
    /// Reads comma-separated tokens, each in the clear or as `sha256:HEX`. One in the clear has at
    /// least `min_length` characters.
    pub(super) fn new(text: &str, min_length: usize) -> Result<Option<Self>, String> {
        const HINT: &str =
            "after sha256: write 64 hexadecimal digits; `printf %s TOKEN | sha256sum` prints them";
        let secrets = text.split(',').map(str::trim).filter(|secret| !secret.is_empty());
        let digest = |secret: &str| match secret.strip_prefix("sha256:") {
            Some(hex) => decode_hex(hex).ok_or_else(|| HINT.to_owned()),
            None if secret.chars().count() < min_length => Err(format!(
                "a token of fewer than {min_length} characters can be guessed; `openssl rand -hex 32` prints one"
            )),
            None => Ok(Sha256::digest(secret).into()),
        };
        let digests: Vec<_> = secrets.map(digest).collect::<Result<_, _>>()?;
        match digests.is_empty() {
            true if !text.is_empty() => Err(NO_SECRET.into()),
            true => Ok(None),
            false => Ok(Some(Self(digests))),
        }
    }

    /// The position, from 1, of the token that a request sent. Takes the same time for every
    /// `sent`.
    #[must_use]
    pub fn position(&self, sent: &[u8]) -> Option<u64> {
        let sent: [u8; 32] = Sha256::digest(sent).into();
        let places = (1..).zip(&self.0);
        let found = places.fold(0_u64, |found, (place, secret)| {
            u64::conditional_select(&found, &place, secret.ct_eq(&sent))
        });
        (found != 0).then_some(found)
    }

    /// Returns true if `sent` is one of the tokens. Takes the same time for every `sent`.
    #[must_use]
    pub fn accepts(&self, sent: &[u8]) -> bool {
        self.position(sent).is_some()
    }

    /// The SHA-256 of each token, in their order.
    #[must_use]
    pub fn digests(&self) -> &[[u8; 32]] {
        &self.0
    }

    /// Returns true if there is more than one token.
    #[must_use]
    pub fn has_several(&self) -> bool {
        self.0.len() > 1
    }
}

impl fmt::Debug for BearerTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerTokens(…)")
    }
}

/// The credentials of the admin API. Without any, the API is not served.
#[derive(Clone, Debug)]
pub struct AdminCredentials {
    /// Tokens for every request.
    pub write: Option<BearerTokens>,
    /// Tokens for reading requests only.
    pub read: Option<BearerTokens>,
    /// Access key that signs requests of every kind.
    pub access_key: Option<AccessKey>,
}

impl AdminCredentials {
    /// Returns true if there is a credential.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.write.is_some() || self.read.is_some() || self.access_key.is_some()
    }
}

/// An access key with which AWS' clients sign requests. The secret is kept: a signature cannot be
/// verified by its digest.
#[derive(Clone)]
pub struct AccessKey {
    /// The id that a signed request names.
    pub id: String,
    /// The secret.
    pub secret: String,
}

impl AccessKey {
    pub(super) fn new(id: String, secret: String) -> Option<Self> {
        (!id.is_empty()).then_some(Self { id, secret })
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessKey({}, …)", self.id)
    }
}

/// The keys that encrypt the stored values of API keys: the first encrypts, all decrypt.
#[derive(Clone)]
pub struct EncryptionKeys(pub Vec<[u8; 32]>);

impl EncryptionKeys {
    pub(super) fn new(text: &str) -> Result<Self, &'static str> {
        const HINT: &str = "a key is 32 bytes in base64; `tollgate keygen` prints one";
        let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty());
        let read = |key| STANDARD.decode(key).ok()?.try_into().ok();
        let keys: Vec<_> = keys.map(|key| read(key).ok_or(HINT)).collect::<Result<_, _>>()?;
        if keys.is_empty() && !text.is_empty() { Err(NO_SECRET) } else { Ok(Self(keys)) }
    }
}

impl fmt::Debug for EncryptionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionKeys({}, …)", self.0.len())
    }
}

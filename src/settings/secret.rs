//! Settings that hold a secret: they do not print themselves.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Where limits are counted, as written: it may hold a password, so it does not print itself.
#[derive(Clone)]
pub struct StoreAddress(String);

impl StoreAddress {
    pub(super) fn new(written: String) -> Self {
        Self(written)
    }

    /// The address with everything in it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether limits are counted in this process.
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

/// A secret that callers must send, kept as its SHA-256.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    pub(super) fn new(secret: &str) -> Option<Self> {
        (!secret.is_empty()).then(|| Self(Sha256::digest(secret).into()))
    }

    /// Whether `sent` is the secret; takes the same time whatever was sent.
    #[must_use]
    pub fn is(&self, sent: &[u8]) -> bool {
        self.0.ct_eq(&<[u8; 32]>::from(Sha256::digest(sent))).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Who may use the admin API; nobody where all are absent.
#[derive(Clone, Debug)]
pub struct AdminCredentials {
    /// May do everything.
    pub write: Option<Token>,
    /// May only read.
    pub read: Option<Token>,
    /// Signs requests; may do everything.
    pub access_key: Option<AccessKey>,
}

impl AdminCredentials {
    /// Whether there is any.
    #[must_use]
    pub fn are_set(&self) -> bool {
        self.write.is_some() || self.read.is_some() || self.access_key.is_some()
    }
}

/// What AWS' clients sign with. A signature cannot be checked by a digest, so the secret is kept.
#[derive(Clone)]
pub struct AccessKey {
    /// Which key a request says that it is signed with.
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

/// What API keys' values are kept under, if at all: the first encrypts, all decrypt.
#[derive(Clone)]
pub struct EncryptionKeys(pub Vec<[u8; 32]>);

impl EncryptionKeys {
    pub(super) fn new(written: &str) -> Result<Self, &'static str> {
        const HINT: &str = "a key is 32 bytes in base64; `openssl rand -base64 32` makes one";
        let keys = written.split(',').map(str::trim).filter(|key| !key.is_empty());
        let read = |key| STANDARD.decode(key).ok()?.try_into().ok();
        keys.map(|key| read(key).ok_or(HINT)).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Debug for EncryptionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionKeys({}, …)", self.0.len())
    }
}

//! Sessions of the console: cookies that every node opens, and that none keeps.
//!
//! A cookie is the credential itself and an end, encrypted with a key that is derived from the
//! credential's SHA-256. So a node that has only the digest opens it, and only someone who knows the
//! credential can make one: the digest in a configuration is not enough. A credential that is taken
//! out of the settings ends its sessions.

use std::borrow::Cow;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::admin::auth::Role;
use crate::settings::{AccessKey, AdminCredentials, BearerTokens};

/// The name of the cookie.
pub(super) const COOKIE: &str = "tollgate_session";
/// The lifetime of a session in seconds: a working day.
pub(super) const LIFETIME_SECS: u64 = 8 * 60 * 60;
/// The longest credential in bytes: browsers drop cookies of more than 4 KiB.
const MAX_CREDENTIAL_BYTES: usize = 2_048;
/// The purpose of the derived keys, and the associated data of the cookies.
const PURPOSE: &[u8] = b"tollgate console session 1";

/// A session that a cookie opens.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::admin) struct Session<'s> {
    /// The name of the credential in logs.
    pub(in crate::admin) who: &'s str,
    pub(in crate::admin) role: Role,
    /// In seconds since 1970.
    pub(super) ends: u64,
}

/// The reason why a cookie opens no session.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::admin) enum SessionError {
    /// It was made by none of the credentials, or altered.
    Unknown,
    Expired,
}

/// The credentials that begin sessions.
pub(in crate::admin) struct Sessions(Vec<Credential>);

struct Credential {
    who: Cow<'static, str>,
    role: Role,
    digest: [u8; 32],
    key: LessSafeKey,
}

/// An access key as one secret. No token has a line break.
pub(super) fn access_key_secret(id: &str, secret: &str) -> String {
    format!("{id}\n{secret}")
}

impl Credential {
    fn new(who: Cow<'static, str>, role: Role, digest: [u8; 32]) -> Option<Self> {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &digest), PURPOSE);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, derived.as_ref()).ok()?);
        Some(Self { who, role, digest, key })
    }

    fn is(&self, secret: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(secret).into();
        digest.ct_eq(&self.digest).into()
    }

    /// The end and the secret in a cookie that was encrypted with the key of this credential.
    fn decrypt(&self, nonce: &[u8], sealed: &[u8]) -> Option<(u64, Vec<u8>)> {
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let opened = self.key.open_in_place(nonce, Aad::from(PURPOSE), &mut sealed).ok()?;
        let (ends, secret) = opened.split_first_chunk()?;
        Some((u64::from_be_bytes(*ends), secret.to_vec()))
    }
}

impl Sessions {
    pub(in crate::admin) fn new(credentials: &AdminCredentials) -> Self {
        let AdminCredentials { write, read, access_key } = credentials;
        let tokens = |tokens: &Option<BearerTokens>, setting: &'static str, role| {
            let tokens = tokens.as_ref();
            let several = tokens.is_some_and(BearerTokens::has_several);
            let name = move |place| {
                if several {
                    Cow::Owned(format!("{setting}#{place}"))
                } else {
                    Cow::Borrowed(setting)
                }
            };
            let digests = tokens.map_or(&[][..], BearerTokens::digests).to_vec();
            (1..).zip(digests).map(move |(place, digest)| (name(place), role, digest))
        };
        let access_key = access_key.iter().map(|AccessKey { id, secret }| {
            let digest = Sha256::digest(access_key_secret(id, secret)).into();
            (Cow::Owned(id.clone()), Role::Write, digest)
        });
        let all = tokens(write, "admin_token", Role::Write)
            .chain(tokens(read, "admin_read_token", Role::Read))
            .chain(access_key);
        Self(all.filter_map(|(who, role, digest)| Credential::new(who, role, digest)).collect())
    }

    /// Begins a session with the credential `secret` at `now`, in seconds since 1970. Returns it and
    /// the value of its cookie; `None` if no credential is this one.
    pub(super) fn begin(&self, secret: &[u8], now: u64) -> Option<(Session<'_>, String)> {
        let known = self.0.iter().filter(|_| secret.len() <= MAX_CREDENTIAL_BYTES);
        let credential =
            known.fold(None, |found, known| found.or(known.is(secret).then_some(known)))?;
        let ends = now + LIFETIME_SECS;
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut sealed = [&ends.to_be_bytes()[..], secret].concat();
        let unique = Nonce::assume_unique_for_key(nonce);
        let key = &credential.key;
        key.seal_in_place_append_tag(unique, Aad::from(PURPOSE), &mut sealed).ok()?;
        let cookie = URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat());
        Some((Session { who: &credential.who, role: credential.role, ends }, cookie))
    }

    /// The session of a cookie at `now`, in seconds since 1970.
    pub(super) fn open_at(&self, cookie: &str, now: u64) -> Result<Session<'_>, SessionError> {
        let bytes = URL_SAFE_NO_PAD.decode(cookie).map_err(|_| SessionError::Unknown)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or(SessionError::Unknown)?;
        let opened = self.0.iter().find_map(|credential| {
            let (ends, secret) = credential.decrypt(nonce, sealed)?;
            credential.is(&secret).then_some((credential, ends))
        });
        match opened {
            None => Err(SessionError::Unknown),
            Some((_, ends)) if ends <= now => Err(SessionError::Expired),
            Some((Credential { who, role, .. }, ends)) => Ok(Session { who, role: *role, ends }),
        }
    }

    /// The session of a cookie now.
    pub(in crate::admin) fn open(&self, cookie: &str) -> Result<Session<'_>, SessionError> {
        self.open_at(cookie, super::now_secs())
    }

    /// True if a bearer token begins sessions; otherwise it is the access key alone.
    pub(super) fn accept_tokens(&self) -> bool {
        self.0.iter().any(|credential| credential.who.starts_with("admin_"))
    }
}

/// The session cookie of a request.
pub(in crate::admin) fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(name, _)| name.trim() == COOKIE).map(|(_, value)| value.trim());
    values.find(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, SettingsSources};

    fn sessions(variables: &[(&str, &str)]) -> Sessions {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let sources =
            SettingsSources { environment: variables.collect(), ..SettingsSources::default() };
        Sessions::new(&Settings::load(&sources).unwrap().admin)
    }

    const WRITE: (&str, &str) = ("TOLLGATE_ADMIN_TOKEN", "a-token-for-tests,a-second-for-tests");
    const READ: (&str, &str) = ("TOLLGATE_ADMIN_READ_TOKEN", "the-token-for-reading");

    #[test]
    fn every_node_with_the_credential_opens_its_session_until_it_ends() {
        let (here, there) = (sessions(&[WRITE, READ]), sessions(&[READ, WRITE]));
        for (token, who, role) in [
            ("a-second-for-tests", "admin_token#2", Role::Write),
            ("the-token-for-reading", "admin_read_token", Role::Read),
        ] {
            let (session, cookie) = here.begin(token.as_bytes(), 1_000).unwrap();
            let ends = 1_000 + LIFETIME_SECS;
            assert_eq!(session, Session { who, role, ends });
            assert_eq!(there.open_at(&cookie, ends - 1), Ok(session));
            assert_eq!(there.open_at(&cookie, ends), Err(SessionError::Expired));
            assert!(!cookie.contains(token) && !cookie.contains(&URL_SAFE_NO_PAD.encode(token)));
        }
        assert!(here.begin(b"another-token-for-tests", 1_000).is_none());
        assert!(here.begin(&[b'a'; MAX_CREDENTIAL_BYTES + 1], 1_000).is_none());
    }

    #[test]
    fn a_session_of_another_credential_or_an_altered_one_is_unknown() {
        let here = sessions(&[WRITE]);
        let (_, cookie) = here.begin(b"a-token-for-tests", 1_000).unwrap();
        let other = sessions(&[("TOLLGATE_ADMIN_TOKEN", "another-token-for-tests"), READ]);
        assert_eq!(other.open_at(&cookie, 1_000), Err(SessionError::Unknown));
        for place in 0..cookie.len() {
            let mut altered = cookie.clone().into_bytes();
            altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(here.open_at(&altered, 1_000), Err(SessionError::Unknown), "{place}");
        }
        for broken in ["", "AAAA", "no base64!", &cookie[..20]] {
            assert_eq!(here.open_at(broken, 1_000), Err(SessionError::Unknown), "{broken}");
        }
    }

    #[test]
    fn the_digest_of_a_token_does_not_make_a_session() {
        let digest = Sha256::digest("a-token-for-tests");
        let known = crate::digest::encode_hex(&digest.into());
        let here = sessions(&[("TOLLGATE_ADMIN_TOKEN", &format!("sha256:{known}"))]);
        assert!(here.begin(b"a-token-for-tests", 1_000).is_some());
        assert!(here.begin(known.as_bytes(), 1_000).is_none());
        // A reader of the configuration can encrypt the digest, which is not the token.
        let key = &here.0[0].key;
        let mut sealed = [&u64::MAX.to_be_bytes()[..], &digest[..]].concat();
        let nonce = Nonce::assume_unique_for_key([7; NONCE_LEN]);
        key.seal_in_place_append_tag(nonce, Aad::from(PURPOSE), &mut sealed).unwrap();
        let forged = URL_SAFE_NO_PAD.encode([&[7; NONCE_LEN][..], &sealed].concat());
        assert_eq!(here.open_at(&forged, 1_000), Err(SessionError::Unknown));
    }

    #[test]
    fn an_access_key_alone_begins_sessions() {
        let pair = [
            ("TOLLGATE_ADMIN_ACCESS_KEY_ID", "AKIATEST"),
            ("TOLLGATE_ADMIN_SECRET_ACCESS_KEY", "a-secret"),
        ];
        let here = sessions(&pair);
        assert!(!here.accept_tokens() && sessions(&[READ]).accept_tokens());
        let secret = access_key_secret("AKIATEST", "a-secret");
        let (session, _) = here.begin(secret.as_bytes(), 0).unwrap();
        assert_eq!((session.who, session.role), ("AKIATEST", Role::Write));
        assert!(here.begin(b"a-secret", 0).is_none());
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let headers = |lines: &[&str]| {
            let line = |line: &&str| (header::COOKIE, line.parse().unwrap());
            lines.iter().map(line).collect::<HeaderMap>()
        };
        let found = headers(&["a=b; tollgate_session=x-y_z", "c=d"]);
        assert_eq!(session_cookie(&found), Some("x-y_z"));
        assert_eq!(session_cookie(&headers(&["other_tollgate_session=x"])), None);
        assert_eq!(session_cookie(&headers(&["tollgate_session="])), None);
    }
}

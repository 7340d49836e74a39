//! Credentials of the check and admin APIs, and the rule that they cross no network unencrypted.

use std::net::SocketAddr;

use super::raw::RawSettings;
use super::{AccessKey, AdminCredentials, BearerTokens, Settings, SettingsError};

/// The fewest characters of a bearer token: a shorter one can be guessed.
const MIN_TOKEN_LENGTH: usize = 16;

/// The credentials of the admin API.
pub(super) fn admin_credentials(raw: &RawSettings) -> Result<AdminCredentials, SettingsError> {
    let (id, secret) = (raw.admin_access_key_id.clone(), raw.admin_secret_access_key.clone());
    if id.is_empty() != secret.is_empty() {
        let why = "set both the access key id and the secret access key, or neither";
        return Err(SettingsError::Value { key: "admin_access_key_id", why: why.into() });
    }
    Ok(AdminCredentials {
        write: parse_tokens("admin_token", &raw.admin_token, MIN_TOKEN_LENGTH)?,
        read: parse_tokens("admin_read_token", &raw.admin_read_token, MIN_TOKEN_LENGTH)?,
        access_key: AccessKey::new(id, secret),
    })
}

/// The tokens of checks. Only callers on this machine may have a short one.
pub(super) fn check_tokens(
    text: &str,
    listeners: &[SocketAddr],
) -> Result<Option<BearerTokens>, SettingsError> {
    let is_local = listeners.iter().all(|address| address.ip().is_loopback());
    parse_tokens("check_token", text, if is_local { 1 } else { MIN_TOKEN_LENGTH })
}

/// The tokens of a setting, each of at least `min_length` characters.
fn parse_tokens(
    key: &'static str,
    text: &str,
    min_length: usize,
) -> Result<Option<BearerTokens>, SettingsError> {
    BearerTokens::new(text, min_length).map_err(|why| SettingsError::Value { key, why })
}

/// Refuses an admin API that other machines can reach without TLS: credentials and the values of
/// new API keys would cross the network unencrypted. A warning would be overlooked.
pub(super) fn check_admin_exposure(
    settings: &Settings,
    allow_plaintext: bool,
) -> Result<(), SettingsError> {
    let is_reachable = settings.admin.is_configured() && !settings.listen_admin.ip().is_loopback();
    match settings.admin_tls {
        None if is_reachable && !allow_plaintext => {
            let why = "other machines could reach it, and credentials would cross the network unencrypted; set admin_tls_cert and admin_tls_key, or admin_allow_plaintext = true if something else encrypts the connections";
            Err(SettingsError::Value { key: "listen_admin", why: why.into() })
        }
        _ => Ok(()),
    }
}

//! Who may ask, and that what they send to prove it crosses no network in the clear.

use super::raw::RawSettings;
use super::{AccessKey, AdminCredentials, BearerTokens, Settings, SettingsError};

/// Who may use the admin API.
pub(super) fn admin_credentials(raw: &RawSettings) -> Result<AdminCredentials, SettingsError> {
    let (id, secret) = (raw.admin_access_key_id.clone(), raw.admin_secret_access_key.clone());
    if id.is_empty() != secret.is_empty() {
        let why = "an access key id and a secret access key need each other: set both or none";
        return Err(SettingsError::Value { key: "admin_access_key_id", why: why.into() });
    }
    Ok(AdminCredentials {
        write: parse_tokens("admin_token", &raw.admin_token)?,
        read: parse_tokens("admin_read_token", &raw.admin_read_token)?,
        access_key: AccessKey::new(id, secret),
    })
}

/// The secrets of a setting.
pub(super) fn parse_tokens(
    key: &'static str,
    text: &str,
) -> Result<Option<BearerTokens>, SettingsError> {
    BearerTokens::new(text).map_err(|why| SettingsError::Value { key, why: why.into() })
}

/// Credentials, and the values of new keys, do not cross a network in the clear by oversight: a
/// warning would be overlooked.
pub(super) fn check_admin_exposure(
    settings: &Settings,
    allow_plaintext: bool,
) -> Result<(), SettingsError> {
    let is_reachable = settings.admin.is_configured() && !settings.listen_admin.ip().is_loopback();
    match settings.admin_tls {
        None if is_reachable && !allow_plaintext => {
            let why = "others than this machine could reach it, and credentials would cross the network in the clear; set admin_tls_cert and admin_tls_key, or admin_allow_plaintext = true where something else encrypts";
            Err(SettingsError::Value { key: "listen_admin", why: why.into() })
        }
        _ => Ok(()),
    }
}

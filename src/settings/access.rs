//! Who may ask, and that what they send to prove it crosses no network in the clear.

use super::raw::Raw;
use super::{AccessKey, AdminCredentials, Invalid, Settings, Token};

/// Who may use the admin API.
pub(super) fn admin(raw: &Raw) -> Result<AdminCredentials, Invalid> {
    let (id, secret) = (raw.admin_access_key_id.clone(), raw.admin_secret_access_key.clone());
    if id.is_empty() != secret.is_empty() {
        let why = "an access key id and a secret access key need each other: set both or none";
        return Err(Invalid::Value { key: "admin_access_key_id", why: why.into() });
    }
    Ok(AdminCredentials {
        write: token("admin_token", &raw.admin_token)?,
        read: token("admin_read_token", &raw.admin_read_token)?,
        access_key: AccessKey::new(id, secret),
    })
}

/// The secrets of a setting.
pub(super) fn token(key: &'static str, written: &str) -> Result<Option<Token>, Invalid> {
    Token::new(written).map_err(|why| Invalid::Value { key, why: why.into() })
}

/// Credentials, and the values of new keys, do not cross a network in the clear by oversight: a
/// warning would be overlooked.
pub(super) fn is_private(settings: &Settings, allow_plaintext: bool) -> Result<(), Invalid> {
    let is_reachable = settings.admin.are_set() && !settings.listen_admin.ip().is_loopback();
    match settings.admin_tls {
        None if is_reachable && !allow_plaintext => {
            let why = "others than this machine could reach it, and credentials would cross the network in the clear; set admin_tls_cert and admin_tls_key, or admin_allow_plaintext = true where something else encrypts";
            Err(Invalid::Value { key: "listen_admin", why: why.into() })
        }
        _ => Ok(()),
    }
}

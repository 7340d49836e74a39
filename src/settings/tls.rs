//! Which files a listener's TLS is made of. Whether they can be used is seen where they are read.

use std::path::PathBuf;

use super::raw::RawSettings;
use super::{SettingsError, optional_path};

/// The PEM files of a listener's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates; clients need none where absent.
    pub client_ca: Option<PathBuf>,
}

/// What encrypts checks, and what the admin API, which is no more open than they are.
pub(super) fn listener_files(
    raw: &RawSettings,
) -> Result<(Option<TlsFiles>, Option<TlsFiles>), SettingsError> {
    let pair = |setting, cert: &str, key: &str| match (
        optional_path(cert.into()),
        optional_path(key.into()),
    ) {
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (None, None) => Ok(None),
        _ => {
            let why = "a certificate and its key need each other: set both or none".into();
            Err(SettingsError::Value { key: setting, why })
        }
    };
    let files = |pair: Option<(PathBuf, PathBuf)>, setting, client_ca: Option<PathBuf>| {
        let why = "it is for a listener with TLS: set tls_cert and tls_key as well";
        match (pair, client_ca) {
            (None, Some(_)) => Err(SettingsError::Value { key: setting, why: why.into() }),
            (None, None) => Ok(None),
            (Some((cert, key)), client_ca) => Ok(Some(TlsFiles { cert, key, client_ca })),
        }
    };
    let own = pair("tls_cert", &raw.tls_cert, &raw.tls_key)?;
    let admin = pair("admin_tls_cert", &raw.admin_tls_cert, &raw.admin_tls_key)?;
    let client_ca = optional_path(raw.tls_client_ca.clone());
    let checks = files(own.clone(), "tls_client_ca", client_ca.clone())?;
    let admin_ca = optional_path(raw.admin_tls_client_ca.clone()).or(client_ca);
    Ok((checks, files(admin.or(own), "admin_tls_client_ca", admin_ca)?))
}

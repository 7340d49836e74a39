//! The TLS files of a listener. Reading and validating them is the room `tls`'s.

use std::path::PathBuf;

use super::raw::RawSettings;
use super::{SettingsError, optional_path};

/// The PEM files of a listener's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The authorities of client certificates; without it clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// The TLS files of the HTTP listener and of the admin API, which is never more open than the
/// first.
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
            let why = "set both the certificate and its key, or neither".into();
            Err(SettingsError::Value { key: setting, why })
        }
    };
    let files = |pair: Option<(PathBuf, PathBuf)>, setting, client_ca: Option<PathBuf>| {
        let why = "it needs a listener with TLS: set tls_cert and tls_key as well";
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

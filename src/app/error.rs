//! The reasons for which the service does not start, or has not stopped as it should.

use crate::store::StoreError;
use crate::tls::TlsError;

/// The reason why the service does not start, or has not stopped as it should.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Redis can be reached, and cannot be used until the configuration is changed.
    #[error("setting `store`: {0}")]
    Redis(#[source] StoreError),
    /// The catalog file is invalid.
    #[error("{0}")]
    Catalog(#[from] crate::control::ConfigFileError),
    /// The store's address is invalid.
    #[error("setting `store`: {0}")]
    Store(#[from] crate::store::InvalidUrl),
    /// The address is in use or belongs to another machine.
    #[error("cannot listen on {0}: {1}; choose another with {flag}", flag = .2)]
    Listen(std::net::SocketAddr, #[source] std::io::Error, &'static str),
    /// Certificates or keys cannot be used.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The certificate authorities for the receiver of webhooks cannot be loaded.
    #[error("setting `webhook_ca`: {0}")]
    Webhooks(#[source] TlsError),
    /// The data directory cannot be used.
    #[error("cannot use the data directory: {0}")]
    DataDir(#[source] crate::store::DataDirError),
    /// The counters could not be saved at the stop.
    #[error("the counters of the last seconds are lost, since they could not be saved: {0}")]
    Unsaved(#[source] StoreError),
    /// The record cannot be written.
    #[error("cannot write the record {path}: {why}", path = .0.display(), why = .1)]
    Record(std::path::PathBuf, #[source] std::io::Error),
    /// Traces cannot be exported as the environment says.
    #[error("cannot export traces: {0}")]
    Traces(String),
    /// A thread or runtime cannot be created.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

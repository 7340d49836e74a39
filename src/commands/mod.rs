//! The operator's commands, one file each: they read a file, or send requests to a running service.
//!
//! Nothing here serves. `main` parses the arguments and calls one of these.

mod admin;
pub mod apply;
pub mod audit;
mod changes;
pub mod check;
mod check_request;
mod client;
pub mod completions;
mod desired;
pub mod explain;
pub mod export;
pub mod import;
pub mod keygen;
pub mod keys;
pub mod man;
mod names;
pub mod plans;
pub mod policies;
mod progress;
pub mod ready;
pub mod replay;
mod table;
pub mod tail;
pub mod top;
pub mod usage;
pub mod validate;
pub mod what_if;

use std::path::PathBuf;

use axum::http::StatusCode;

use crate::app;
use crate::control;
use crate::engine;
use crate::settings;
use crate::tls;

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A name that several resources have.
    #[error("{0}")]
    AmbiguousName(String),
    /// A file of keys that cannot be imported.
    #[error("{0}")]
    UnusableImport(String),
    /// An option that does not fit the others.
    #[error("{0}")]
    InvalidOption(String),
    /// The URL is not `http://host:port` or `https://host:port`.
    #[error("`{0}` is not a URL of a Tollgate; write http://HOST:PORT or https://HOST:PORT")]
    InvalidUrl(String),
    /// There is no authority to verify the service's certificate with.
    #[error("https:// needs --ca FILE: the authorities that sign the service's certificate")]
    MissingCa,
    /// The settings of the service are not valid.
    #[error("{0}")]
    Settings(#[from] settings::SettingsError),
    /// The service asks for a client certificate, and there is none to send.
    #[error(
        "the service of these settings asks for client certificates (tls_client_ca): pass --client-cert and --client-key, or set listen_ops, which asks for none"
    )]
    MissingClientCertificate,
    /// A file with certificates or a key is not valid.
    #[error("{0}")]
    Tls(#[from] tls::TlsError),
    /// The cost is not JSON.
    #[error("--cost `{0}` is neither a number nor JSON such as {{\"total_tokens\":350}}")]
    InvalidCost(String),
    /// `--usage` is not JSON.
    #[error("--usage is a JSON object, such as {{\"input_tokens\":1200,\"output_tokens\":431}}")]
    InvalidUsage,
    /// The connection or the request failed.
    #[error("no response from {0}: {1}; is it running?")]
    Unreachable(String, String),
    /// There is no token for the admin API.
    #[error(
        "the admin API needs a token: set TOLLGATE_ADMIN_TOKEN, here and at the service (its access key is for AWS' clients)"
    )]
    MissingToken,
    /// The token cannot be sent in a header.
    #[error(
        "the token of --token or TOLLGATE_ADMIN_TOKEN cannot be sent in a header: it has control characters"
    )]
    InvalidToken,
    /// The response has another form than this version expects.
    #[error("unexpected response of the service, perhaps of another version: {0}")]
    UnexpectedResponse(String),
    /// The resources of the API are not a valid catalog without the service's own file.
    #[error("this is not a valid catalog without the service's own catalog file: {0}")]
    IncompleteCatalog(String),
    /// The catalog file is not valid.
    #[error("{0}")]
    Catalog(#[from] control::ConfigFileError),
    /// The store's address is not valid.
    #[error("{0}")]
    Store(#[from] app::StartError),
    /// A file with recorded decisions cannot be read.
    #[error("cannot read {path}: {why}", path = .0.display(), why = .1)]
    UnreadableRecords(PathBuf, #[source] std::io::Error),
    /// Records in which no check can be judged.
    #[error("{0}")]
    UnusableRecords(String),
    /// The file has no recorded decisions, or the reference decides otherwise.
    #[error("{0}")]
    Replay(#[from] engine::ReplayError),
    /// A path in the catalog file, and the reason why the API has no counterpart of it.
    #[error("the admin API has no counterpart of {0}: {1}")]
    Unsupported(String, String),
    /// Confirmation is impossible.
    #[error("cannot ask for confirmation: standard input is not a terminal; --yes confirms")]
    NotATerminal,
    /// Reading a file or writing to standard output failed.
    #[error("cannot read or write: {0}")]
    Io(#[from] std::io::Error),
    /// The admin API refused the request: its status and message.
    #[error("{0}: {1}")]
    Rejected(StatusCode, String),
}

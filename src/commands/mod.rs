//! The operator's commands, one file each: they read a file, or send requests to a running service.
//!
//! Nothing here serves. `main` parses the arguments and calls one of these.

mod admin;
pub mod apply;
mod changes;
pub mod check;
mod client;
mod desired;
pub mod export;
pub mod import;
pub mod keys;
pub mod plans;
pub mod replay;
mod table;
pub mod usage;
pub mod validate;

use std::path::PathBuf;

use axum::http::StatusCode;

pub use client::TlsOptions;

use crate::{app, control, engine, tls};

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The URL is no `http://host:port` or `https://host:port`.
    #[error("`{0}` is no address of a Tollgate; write http://HOST:PORT or https://HOST:PORT")]
    InvalidUrl(String),
    /// There is nothing to know the service by.
    #[error("https:// needs --ca FILE: the authorities that may have signed the certificate")]
    MissingCa,
    /// A file of certificates cannot be used.
    #[error("{0}")]
    Tls(#[from] tls::TlsError),
    /// The cost is no JSON.
    #[error("--cost `{0}` is neither a number nor JSON such as {{\"total_tokens\":350}}")]
    InvalidCost(String),
    /// Nobody answers there.
    #[error("no answer from {0}: {1}; is it running?")]
    Unreachable(String, String),
    /// There is no token to show.
    #[error(
        "there is no token to show: set TOLLGATE_ADMIN_TOKEN, here and at the service (its access key is for AWS' clients)"
    )]
    MissingToken,
    /// The token can be in no header.
    #[error("the token of --token or TOLLGATE_ADMIN_TOKEN is no text for a header")]
    InvalidToken,
    /// What it tells is of another version.
    #[error("the service tells what this tollgate does not understand: {0}")]
    UnexpectedResponse(String),
    /// What the API declares is no catalog without the service's own file.
    #[error("this is no catalog without the service's own catalog file: {0}")]
    IncompleteCatalog(String),
    /// The catalog file cannot be used.
    #[error("{0}")]
    Catalog(#[from] control::ConfigFileError),
    /// The store's address is none.
    #[error("{0}")]
    Store(#[from] app::StartError),
    /// A file of records cannot be read.
    #[error("cannot read {path}: {why}", path = .0.display(), why = .1)]
    UnreadableRecords(PathBuf, #[source] std::io::Error),
    /// The records are none, or the reference decides otherwise.
    #[error("{0}")]
    Replay(#[from] engine::ReplayError),
    /// A place in the catalog file, and why the API cannot say what it says.
    #[error("the admin API cannot have what {0} says: {1}")]
    Unsupported(String, String),
    /// Nobody is at a terminal.
    #[error("nobody can be asked: standard input is no terminal; with --yes it does not ask")]
    NotATerminal,
    /// A file or standard output fails.
    #[error("cannot read or write: {0}")]
    Io(#[from] std::io::Error),
    /// The admin API says no, in its words.
    #[error("{0}: {1}")]
    Rejected(StatusCode, String),
}

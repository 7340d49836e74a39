//! The commands that ask a running service: one file each, and here how it is reached.

mod admin;
pub mod apply;
mod changes;
pub mod check;
mod desired;
pub mod export;
pub mod import;
pub mod keys;
pub mod plans;
mod table;
pub mod usage;

use std::path::PathBuf;

use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::tls;

/// Whom the client trusts, and who it is, where the service has TLS.
#[derive(Clone, clap::Args)]
pub struct TlsOptions {
    /// PEM file with the authorities that may have signed the service's certificate, for https://
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// PEM file with a certificate to show, where the service asks for one
    #[arg(long, value_name = "FILE", requires = "client_key", global = true)]
    client_cert: Option<PathBuf>,
    /// PEM file with that certificate's private key
    #[arg(long, value_name = "FILE", requires = "client_cert", global = true)]
    client_key: Option<PathBuf>,
}

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
    Catalog(#[from] crate::control::ConfigFileError),
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

async fn send(
    url: &str,
    tls_options: &TlsOptions,
    request: Request<Body>,
) -> Result<(StatusCode, HeaderMap, Bytes), CommandError> {
    let (head, body) = start_request(url, tls_options, request).await?.into_parts();
    let body = body.collect().await.map_err(|error| unreachable_error(url, &error))?;
    Ok((head.status, head.headers, body.to_bytes()))
}

/// An answer whose body is still to come.
async fn start_request(
    url: &str,
    tls_options: &TlsOptions,
    mut request: Request<Body>,
) -> Result<Response<Incoming>, CommandError> {
    let invalid = || CommandError::InvalidUrl(url.into());
    let (scheme, host) = url.split_once("://").ok_or_else(invalid)?;
    let host: Authority = host.trim_end_matches('/').parse().map_err(|_| invalid())?;
    request.headers_mut().insert(header::HOST, host.as_str().parse().map_err(|_| invalid())?);
    let stream =
        TcpStream::connect(host.as_str()).await.map_err(|error| unreachable_error(url, &error))?;
    let response = match scheme {
        "http" => send_over(stream, request).await,
        "https" => {
            let ca = tls_options.ca.as_deref().ok_or(CommandError::MissingCa)?;
            let identity =
                tls_options.client_cert.as_deref().zip(tls_options.client_key.as_deref());
            let name = host.host().trim_matches(['[', ']']).to_owned();
            let stream = tls::ClientTls::new(Some(ca), identity)?.connect(stream, name).await;
            send_over(stream.map_err(|error| unreachable_error(url, &error))?, request).await
        }
        _ => return Err(invalid()),
    };
    response.map_err(|error| unreachable_error(url, &error))
}

async fn send_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

fn unreachable_error(url: &str, error: &dyn std::fmt::Display) -> CommandError {
    CommandError::Unreachable(url.into(), error.to_string())
}

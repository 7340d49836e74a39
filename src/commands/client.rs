//! Requests of the commands to a running service, by its URL.
//!
//! Redirects are not followed, and a request is never retried.

use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Request, StatusCode, header, response};
use bytes::Bytes;

use super::CommandError;
use crate::tls;
use crate::transport::{ResponseBody, send_request};

/// The largest response that is read into memory, in bytes; exports are copied as they arrive.
pub(super) const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// TLS options of a command: the authorities that it trusts, and its own certificate.
#[derive(Clone, clap::Args)]
pub(super) struct TlsOptions {
    /// PEM file with the authorities that sign the service's certificate, for https://
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// PEM file with a client certificate, if the service asks for one
    #[arg(long, value_name = "FILE", requires = "client_key", global = true)]
    client_cert: Option<PathBuf>,
    /// PEM file with the client certificate's private key
    #[arg(long, value_name = "FILE", requires = "client_cert", global = true)]
    client_key: Option<PathBuf>,
}

impl TlsOptions {
    /// The files of the client certificate and its key, if they are given.
    pub(super) fn identity(&self) -> Option<(&Path, &Path)> {
        self.client_cert.as_deref().zip(self.client_key.as_deref())
    }
}

/// Sends a request and reads the whole response.
pub(super) async fn send(
    url: &str,
    tls_options: &TlsOptions,
    request: Request<Body>,
) -> Result<(StatusCode, HeaderMap, Bytes), CommandError> {
    let (head, body) = start_request(url, tls_options, request).await?;
    let body = body.read(MAX_RESPONSE_BYTES).await;
    Ok((head.status, head.headers, body.map_err(|error| unreachable_error(url, &error))?))
}

/// Sends a request and returns when the head of the response has arrived.
pub(super) async fn start_request(
    url: &str,
    tls_options: &TlsOptions,
    mut request: Request<Body>,
) -> Result<(response::Parts, ResponseBody), CommandError> {
    let invalid = || CommandError::InvalidUrl(url.into());
    let (scheme, host) = url.split_once("://").ok_or_else(invalid)?;
    let host: Authority = host.trim_end_matches('/').parse().map_err(|_| invalid())?;
    request.headers_mut().insert(header::HOST, host.as_str().parse().map_err(|_| invalid())?);
    let tls = match scheme {
        "http" => None,
        "https" => {
            let ca = tls_options.ca.as_deref().ok_or(CommandError::MissingCa)?;
            Some(tls::ClientTls::new(Some(ca), tls_options.identity())?)
        }
        _ => return Err(invalid()),
    };
    let name = host.host().trim_matches(['[', ']']);
    let response = send_request(host.as_str(), tls.as_ref().map(|tls| (tls, name)), request).await;
    response.map_err(|error| unreachable_error(url, &error))
}

pub(super) fn unreachable_error(url: &str, error: &dyn std::fmt::Display) -> CommandError {
    CommandError::Unreachable(url.into(), error.to_string())
}

//! The HTTP client of the commands: one connection for one request.
//!
//! It follows no redirect and sends nothing a second time.

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

use super::CommandError;
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

/// Sends a request and reads the whole response.
pub(super) async fn send(
    url: &str,
    tls_options: &TlsOptions,
    request: Request<Body>,
) -> Result<(StatusCode, HeaderMap, Bytes), CommandError> {
    let (head, body) = start_request(url, tls_options, request).await?.into_parts();
    let body = body.collect().await.map_err(|error| unreachable_error(url, &error))?;
    Ok((head.status, head.headers, body.to_bytes()))
}

/// An answer whose body is still to come.
pub(super) async fn start_request(
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

pub(super) fn unreachable_error(url: &str, error: &dyn std::fmt::Display) -> CommandError {
    CommandError::Unreachable(url.into(), error.to_string())
}

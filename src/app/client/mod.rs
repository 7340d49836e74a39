//! The commands that ask a running service: one file each, and here how it is reached.

mod admin;
pub mod check;
pub mod keys;
pub mod plans;
mod table;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The URL is no plain `http://host:port`.
    #[error("`{0}` is no address of a Tollgate; write http://HOST:PORT")]
    Url(String),
    /// The cost is no JSON.
    #[error("--cost `{0}` is neither a number nor JSON such as {{\"total_tokens\":350}}")]
    Cost(String),
    /// Nobody answers there.
    #[error("no answer from {0}: {1}; is it running?")]
    Silent(String, String),
    /// The token can be in no header.
    #[error("the token of --token or TOLLGATE_ADMIN_TOKEN is no text for a header")]
    Token,
    /// The admin API says no, in its words.
    #[error("{0}: {1}")]
    Refused(StatusCode, String),
}

async fn send(
    url: &str,
    mut request: Request<Body>,
) -> Result<(StatusCode, HeaderMap, Bytes), NoAnswer> {
    let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let host = host.filter(|host| !host.contains('/')).ok_or_else(|| NoAnswer::Url(url.into()))?;
    let host_header = host.parse().map_err(|_| NoAnswer::Url(url.into()))?;
    request.headers_mut().insert(header::HOST, host_header);
    let stream = TcpStream::connect(host).await.map_err(|error| silent(url, &error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| silent(url, &error))?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| silent(url, &error))?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| silent(url, &error))?;
    Ok((head.status, head.headers, body.to_bytes()))
}

fn silent(url: &str, error: &dyn std::fmt::Display) -> NoAnswer {
    NoAnswer::Silent(url.into(), error.to_string())
}

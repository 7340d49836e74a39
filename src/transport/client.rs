//! The HTTP client: one HTTP/1.1 request on a connection of its own, and a bounded response.
//!
//! It neither retries nor sets timeouts: a caller that wants one drops the future.

use std::io;

use axum::body::Body;
use axum::http::{Request, response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::task::JoinHandle;

use crate::tls::ClientTls;

/// The reason why a request got no usable response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection or its TLS handshake failed.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// The connection broke, or the response is not valid HTTP.
    #[error("the connection failed: {0}")]
    Http(#[from] hyper::Error),
    /// The response body is larger than the caller's limit.
    #[error("the response has more than {0} bytes")]
    TooLarge(usize),
}

/// The body of a response; dropping it closes the connection.
pub struct ResponseBody {
    incoming: Incoming,
    _connection: ConnectionGuard,
}

/// Ends the task of a connection when dropped.
struct ConnectionGuard(JoinHandle<hyper::Result<()>>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects to `address`, sends `request`, and returns when the head of the response has arrived.
///
/// With `tls`, the connection is encrypted and the server's certificate must be valid for `host`.
/// The request must have a `Host` header.
///
/// # Errors
/// If the connection fails before the head of the response has arrived.
pub async fn send_request(
    address: impl ToSocketAddrs,
    tls: Option<(&ClientTls, &str)>,
    request: Request<Body>,
) -> Result<(response::Parts, ResponseBody), ClientError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = match tls {
        None => open_connection(stream).await?,
        Some((tls, host)) => open_connection(tls.connect(stream, host.to_owned()).await?).await?,
    };
    let (head, incoming) = sender.send_request(request).await?.into_parts();
    Ok((head, ResponseBody { incoming, _connection: connection }))
}

async fn open_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<(SendRequest<Body>, ConnectionGuard)> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    Ok((sender, ConnectionGuard(tokio::spawn(connection))))
}

impl ResponseBody {
    /// Reads the whole body, of at most `limit` bytes.
    ///
    /// # Errors
    /// If the body is larger, or the connection fails.
    pub async fn read(mut self, limit: usize) -> Result<Bytes, ClientError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.next_chunk().await? {
            if body.len() + chunk.len() > limit {
                return Err(ClientError::TooLarge(limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Reads the next chunk of the body; `None` at its end.
    ///
    /// # Errors
    /// If the connection fails.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.incoming.frame().await {
            if let Ok(chunk) = frame?.into_data() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers one request with these bytes and waits until the client hangs up.
    async fn serve_once(response: String) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _request = stream.read(&mut [0; 1024]).await.unwrap();
            let _client_gone = stream.write_all(response.as_bytes()).await;
            let _closed_or_reset = stream.read_to_end(&mut Vec::new()).await;
        });
        (address, served)
    }

    async fn get(address: SocketAddr) -> ResponseBody {
        let request = Request::get("/").header("host", "test").body(Body::empty()).unwrap();
        let (head, body) = send_request(address, None, request).await.unwrap();
        assert_eq!(head.status, 200);
        body
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read_and_a_larger_one_is_an_error() {
        let response = || "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12345".to_owned();
        let (address, _server) = serve_once(response()).await;
        assert_eq!(get(address).await.read(5).await.unwrap(), "12345");
        let (address, served) = serve_once(response()).await;
        let error = get(address).await.read(4).await.unwrap_err();
        assert_eq!(error.to_string(), "the response has more than 4 bytes");
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_body_without_an_end_is_read_up_to_the_limit_only() {
        let chunks = "1000\r\n".to_owned() + &"x".repeat(0x1000) + "\r\n";
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
        let (address, served) = serve_once(head + &chunks.repeat(1_000)).await;
        let error = get(address).await.read(100_000).await.unwrap_err();
        assert!(matches!(error, ClientError::TooLarge(100_000)), "{error}");
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_response_that_is_dropped_closes_the_connection() {
        let (address, served) =
            serve_once("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n1".into()).await;
        drop(get(address).await);
        served.await.unwrap();
    }
}

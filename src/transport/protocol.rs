//! The protocols of listeners, and hyper's configuration for each.
//!
//! Time limits that hyper does not have are in `open_connections`, those of bodies in `body`.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;

/// The timeout for reading a request head, and the longest time that a connection may be idle.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest request head in bytes; a larger one gets a 431 response.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The largest header list of an HTTP/2 request, in bytes.
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// The most header lines; a request with more gets a 431 response.
const MAX_HEADERS: usize = 100;
/// The most concurrent requests on one HTTP/2 connection. Each takes some 50 KiB until its message
/// is whole.
const MAX_STREAMS: u32 = 256;
/// The idle time after which an HTTP/2 peer is sent a keep-alive ping.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// The timeout for the response to a keep-alive ping: a peer that is gone is noticed after 30 s.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The protocol of a server's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge, as gRPC uses it.
    Http2,
}

impl Protocol {
    /// The protocol's ALPN name, for the TLS handshake.
    #[must_use]
    pub const fn alpn_name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }

    /// The bytes that count as the head of a request whose body is unfinished. With HTTP/2 one
    /// connection may have many such heads.
    pub(super) const fn unfinished_head_bytes(self) -> usize {
        match self {
            Self::Http1 => 0,
            Self::Http2 => MAX_HEADER_LIST_BYTES as usize,
        }
    }

    pub(super) fn connection_builder(self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            // Responses are short: head and body are copied into one buffer.
            .writev(false);
        builder
            .http2()
            .timer(TokioTimer::new())
            // gRPC clients do not use the date.
            .auto_date_header(false)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        match self {
            Self::Http1 => builder.http1_only(),
            Self::Http2 => builder.http2_only(),
        }
    }
}

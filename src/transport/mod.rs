//! Transport: the HTTP server that every listener runs on, and the HTTP client.
//!
//! Listeners, connections, request bodies, the caller's address and token, the `traceparent`
//! header, and problem details. The endpoints are elsewhere: in `http`, `grpc` and `admin`.

mod access;
mod body;
mod client;
mod connection_limit;
mod framing;
mod listener;
mod monitored;
mod monitored_body;
mod open_connections;
mod openapi;
mod problem;
mod protocol;
mod server;

use axum::http::HeaderMap;

pub use access::{CallerAccess, Peer, bearer_token};
pub use body::{BodyError, BodyLimits, read_body};
pub use client::{ClientError, ResponseBody, send_request};
pub use listener::Listener;
pub use openapi::OpenApiDocument;
pub use problem::Problem;
pub use protocol::Protocol;
pub use server::{ConnectionWorker, DrainFlag, HttpServer, ServerOptions};

/// The value of the `traceparent` header (W3C Trace Context), which `store` parses.
#[must_use]
pub fn traceparent(headers: &HeaderMap) -> Option<&str> {
    headers.get("traceparent")?.to_str().ok()
}

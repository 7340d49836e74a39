//! Transport: the HTTP server that every listener runs on, and the HTTP client.
//!
//! Listeners, connections, request bodies, the caller's address, token and request ids, and problem
//! details. The endpoints are elsewhere: in `http`, `grpc` and `admin`.

mod access;
mod body;
mod caller_ids;
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

pub use access::{CallerAccess, Peer, bearer_token};
pub use body::{BodyError, BodyLimits, read_body};
pub use caller_ids::{CallerIds, X_REQUEST_ID};
pub use client::{ClientError, ResponseBody, send_request};
pub use listener::Listener;
pub use openapi::OpenApiDocument;
pub use problem::Problem;
pub use protocol::Protocol;
pub use server::{ConnectionWorker, DrainFlag, HttpServer, ServerOptions};

//! Transport: the HTTP server that every listener runs on, and the HTTP client.
//!
//! Listeners, connections, request bodies, the caller's address and token, and problem details. It
//! does not know what a request asks for: the endpoints are in `http`, `grpc` and `admin`.

mod access;
mod body;
mod client;
mod listener;
mod openapi;
mod problem;
mod server;
mod trace;

pub use access::{CallerAccess, Peer, bearer_token};
pub use body::{BODY_TIMEOUT, read_body};
pub use client::{ClientError, ResponseBody, send_request};
pub use listener::Listener;
pub use openapi::OpenApiDocument;
pub use problem::Problem;
pub use server::{ConnectionWorker, DrainFlag, HttpServer, Protocol};
pub use trace::traceparent;

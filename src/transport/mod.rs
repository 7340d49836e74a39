//! Transport: the HTTP server that every listener runs on, and what all its requests need.
//!
//! Listeners, connections, request bodies, the caller's address and token, and problem details. It
//! does not know what a request asks for: the endpoints are `http`'s, `grpc`'s and `admin`'s.

mod access;
mod body;
mod listener;
mod openapi;
mod problem;
mod server;

pub use access::{CallerAccess, Peer, bearer_token};
pub use body::{BODY_TIMEOUT, read_body};
pub use listener::Listener;
pub use openapi::OpenApiDocument;
pub use problem::Problem;
pub use server::{ConnectionWorker, DrainFlag, HttpServer, Protocol};

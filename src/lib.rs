//! Tollgate: a distributed rate-limiting service.
//!
//! The library is the service; the binary only reads its arguments. Modules are declared in the
//! order of their dependencies, which point one way: a module uses those above it, never below.

pub mod time;
pub mod object;
pub mod watch;
pub mod syntax;
pub mod digest;
pub mod failure_policy;
pub mod settings;
pub mod algorithm;
pub mod limit;
pub mod judge;
pub mod catalog;
pub mod telemetry;
pub mod tls;
pub mod transport;
pub mod store;
pub mod control;
pub mod engine;
pub mod webhook;
pub mod http;
pub mod grpc;
pub mod admin;
pub mod app;
pub mod commands;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

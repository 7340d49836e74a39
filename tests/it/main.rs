//! Tollgate as its users meet it: real Redis, real gateways, the real binary. One test binary, so
//! that helpers are compiled once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking, and its name is its documentation"
)]

mod support;

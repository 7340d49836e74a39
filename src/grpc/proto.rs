//! Envoy's messages, made by `build.rs` from `proto/`. Nothing here is written by hand.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated code is as its generators write it"
)]

tonic::include_proto!("envoy.service.ratelimit.v3");
include!(concat!(env!("OUT_DIR"), "/envoy.service.ratelimit.v3.serde.rs"));

/// What gRPC reflection tells: these messages' descriptors, encoded.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

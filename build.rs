//! Generates Rust code from `proto/`, without a `protoc` on the machine: messages, the service's
//! trait, JSON, and the descriptors for gRPC reflection.

use std::path::PathBuf;

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/ratelimit.proto"], ["proto"])?;
    let descriptors = files.encode_to_vec();
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), &descriptors)?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .codec_path("crate::grpc::codec::SmallCodec")
        .compile_well_known_types(true)
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_fds(files)?;
    pbjson_build::Builder::new().register_descriptors(&descriptors)?.build(&[".envoy"])?;
    Ok(())
}

//! Fuzzes `envoy_pattern`; see `tollgate::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate::fuzzing::run("envoy_pattern", data));

//! Fuzzes `client_address`; see `tollgate::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate::fuzzing::run("client_address", data));

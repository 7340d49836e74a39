//! Fuzzes `token_usage`; see `tollgate::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate::fuzzing::run("token_usage", data));

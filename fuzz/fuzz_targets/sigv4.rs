//! Fuzzes `sigv4`; see `tollgate::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate::fuzzing::run("sigv4", data));

//! Fuzzes `usage_rows`; see `tollgate::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate::fuzzing::run("usage_rows", data));

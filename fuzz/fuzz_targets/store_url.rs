//! Fuzzes `store_url`; see `tollgate::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate::fuzzing::run("store_url", data));

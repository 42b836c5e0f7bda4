#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vitrine_fuzz::run(vitrine_fuzz::foreign, bytes));

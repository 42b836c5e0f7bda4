//! A zip archive of class folders.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vitrine_fuzz::dataset("pets.zip", bytes));

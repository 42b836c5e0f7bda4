//! A Parquet table with pictures and labels.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vitrine_fuzz::dataset("train.parquet", bytes));

//! The table of a run's epochs, which a resumed training and `compare` read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitrine::report::csv::read_results;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_results(&vitrine_fuzz::file("results.csv", bytes));
});

//! CIFAR's binary batches.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitrine_fuzz::file;

fuzz_target!(|bytes: &[u8]| {
    let batch = file("cifar/data_batch_1.bin", bytes);
    vitrine_fuzz::open(batch.parent().expect("a file in a folder"));
});

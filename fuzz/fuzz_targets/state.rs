//! The state of a training.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitrine::train::Saved;

fuzz_target!(|bytes: &[u8]| {
    let state = vitrine_fuzz::file("checkpoint/state.safetensors", bytes);
    let _ = Saved::open(state.parent().expect("a file in a folder"));
});

//! A weights file, up to the classifier that is made of it.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use vitrine::checkpoint::TensorFile;
use vitrine::classify::Classifier;
use vitrine::device::{DeviceChoice, Selected, select};

fn cpu() -> &'static Selected {
    static CPU: OnceLock<Selected> = OnceLock::new();
    // Built with the CPU backend alone.
    CPU.get_or_init(|| select(DeviceChoice::Auto).expect("the CPU"))
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = TensorFile::open(&vitrine_fuzz::file("weights.safetensors", bytes)) {
        let _ = Classifier::of(&file, &cpu().device);
    }
});

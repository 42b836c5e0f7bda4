//! MNIST's IDX files: pictures and labels, each preceded by its length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitrine_fuzz::file;

fuzz_target!(|files: (&[u8], &[u8])| {
    let pictures = file("idx/train-images-idx3-ubyte", files.0);
    file("idx/train-labels-idx1-ubyte", files.1);
    vitrine_fuzz::open(pictures.parent().expect("a file in a folder"));
});

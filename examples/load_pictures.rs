//! Reads the pictures of a data set as a training does before its first epoch, and prints how long it took.
//!
//! `cargo run --release --example load_pictures -- [--threads N] DATA IMAGE_SIZE [crops]`; with `crops`, pictures are kept
//! larger, as for random resized crops.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use vitrine::data::{Dataset, Pictures, PicturesOptions, Preprocess, Resize, SplitName};
use vitrine::stop::Stop;

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--threads") {
        let threads = arguments.get(1).context("expected a number")?.parse()?;
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()?;
        arguments.drain(..2);
    }
    let [data, size, crops @ ..] = arguments.as_slice() else {
        anyhow::bail!("expected DATA IMAGE_SIZE");
    };
    let dataset = Arc::new(Dataset::open(Path::new(data))?);
    let preprocess = Preprocess {
        image_size: size.parse()?,
        resize: Resize::Crop,
        mean: [0.5; 3],
        std: [0.5; 3],
        ..Preprocess::default()
    };
    let options = PicturesOptions {
        keep_larger: !crops.is_empty(),
        ..PicturesOptions::default()
    };
    let samples = dataset.given(SplitName::Train);
    let began = Instant::now();
    let stop = Stop::default();
    let pictures = Pictures::load(&dataset, samples, &preprocess, &options, &stop, &|_| {})?;
    println!(
        "{} pictures in {:.3} s, {} MiB kept, {} unreadable",
        pictures.len(),
        began.elapsed().as_secs_f64(),
        pictures.bytes_cached() >> 20,
        pictures.skipped().len()
    );
    Ok(())
}

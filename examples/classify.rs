//! Loads weights and classifies pictures with them.
//!
//! `cargo run --release --example classify -- WEIGHTS PICTURES…`; weights are a run directory, a
//! file, or the name of weights that are built in, such as `cifar10-vit`.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};

use anyhow::Context;
use vitrine::classify::Classifier;
use vitrine::device::{DeviceChoice, select};
use vitrine::run::open_weights;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let weights = arguments.next().context("expected weights")?;
    let pictures: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let device = select(DeviceChoice::Auto)?.device;

    // Class names, preprocessing and temperature come from the weights file.
    let classifier = Classifier::of(&open_weights(Path::new(&weights))?, &device)?;
    let prepared: Result<Vec<_>, _> = pictures
        .iter()
        .map(|picture| classifier.prepare(picture))
        .collect();
    let answers = classifier.classify(&prepared?)?;
    for (picture, predictions) in pictures.iter().zip(answers) {
        let predictions = predictions.context("the weights' answer is not a number")?;
        let best = &predictions[0];
        println!(
            "{}: {} ({:.1} %)",
            picture.display(),
            best.label,
            100.0 * best.prob
        );
    }
    Ok(())
}

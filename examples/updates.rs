//! Fine-tunes weights on fixed batches, and prints the loss of each update.
//!
//! ```sh
//! cargo run --release --example updates -- FOLDER
//! ```
//!
//! FOLDER is what `tests/support/foreign/finetune.py` writes: a model as timm saves it;
//! `batches.safetensors` with `images`, `[N, B, 3, S, S]` in f32, normalised, and `labels`, `[N, B]`
//! in i64; and `runs.json` with the settings and timm's own losses. It is how training is compared
//! with timm's, update by update.

use std::convert::Infallible;
use std::error::Error;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use safetensors::SafeTensors;
use serde::Deserialize;
use vitrine::checkpoint;
use vitrine::data::{Batch, Targets};
use vitrine::device::{DeviceChoice, select};
use vitrine::model::Noise;
use vitrine::ops::Precision;
use vitrine::run::open_weights;
use vitrine::stop::Stop;
use vitrine::train::{Classification, FinetuneConfig, Learner, OptimizerConfig, Start, Step};

/// `runs.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Runs {
    /// Settings of every run; the rate is constant.
    pub(crate) optimizer: OptimizerConfig,
    /// One training each, from the same start on the same batches.
    pub(crate) runs: Vec<Run>,
}

/// One training.
#[derive(Debug, Deserialize)]
pub(crate) struct Run {
    /// Layer-wise decay of the rate.
    pub(crate) layer_decay: f64,
    /// timm's loss at each update.
    pub(crate) losses: Vec<f64>,
}

#[allow(clippy::print_stdout, dead_code)]
fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or("expected FOLDER")?;
    let device = select("cpu".parse::<DeviceChoice>()?)?.device;
    let Runs { optimizer, runs } = settings(&folder)?;
    let losses = runs
        .iter()
        .map(|run| losses(&folder, &optimizer, run, &device));
    let losses: Vec<Vec<f64>> = losses.collect::<Result<_, _>>()?;
    println!("{}", serde_json::to_string(&losses)?);
    Ok(())
}

/// Reads `runs.json`.
///
/// # Errors
///
/// Where it is missing or something else.
pub(crate) fn settings(folder: &Path) -> Result<Runs, Box<dyn Error>> {
    Ok(serde_json::from_slice(&std::fs::read(
        folder.join("runs.json"),
    )?)?)
}

/// The losses of vitrine's updates, as many as timm took, over the batches in turn.
///
/// # Errors
///
/// Where the folder does not hold what it should, or an update is not taken.
pub(crate) fn losses(
    folder: &Path,
    optimizer: &OptimizerConfig,
    run: &Run,
    device: &Device,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let file = open_weights(folder)?;
    let meta = checkpoint::meta(&file)?;
    let start = Start {
        file,
        meta,
        head: None,
    };
    let undrawn = start.meta.model.init_constant(&device.clone().autodiff());
    let model = start.fill(undrawn, &start.meta, 0, device)?;
    let finetune = FinetuneConfig {
        layer_decay: run.layer_decay,
        ..FinetuneConfig::default()
    };
    let task = Box::new(Classification::new(0.0, device));
    let mut learner = Learner::new(model, task, optimizer, &finetune, 0.0, Precision::F32, 0);
    let batches = batches(&folder.join("batches.safetensors"))?;
    let updates = 0..run.losses.len();
    updates
        .map(|update| {
            let step = Step {
                lr: optimizer.lr,
                spent: 0.0,
                batches: 1,
                noise: Noise::new(0, update as u64),
                stop: Stop::default(),
            };
            let batch = &batches[update % batches.len()];
            let loss = learner.update(step, || Ok::<_, Infallible>(batch.clone()));
            loss.map_err(|error| format!("update {update}: {error:?}").into())
        })
        .collect()
}

fn batches(path: &Path) -> Result<Vec<Batch>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let (images, labels) = (file.tensor("images")?, file.tensor("labels")?);
    let &[count, len, 3, image_size, _] = images.shape() else {
        return Err(format!("images are {:?}, expected [N, B, 3, S, S]", images.shape()).into());
    };
    let pixels = images.data().chunks_exact(4);
    let pixels = pixels.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let pixels: Vec<f32> = pixels.collect();
    // The lowest byte: there are ten classes.
    let labels: Vec<usize> = labels.data().chunks_exact(8).map(|b| b[0].into()).collect();
    let pixels = pixels.chunks_exact(pixels.len() / count);
    let batches = pixels
        .zip(labels.chunks_exact(len))
        .map(|(images, labels)| Batch {
            images: images.to_vec(),
            image_size,
            len,
            targets: Targets::Hard(labels.to_vec()),
            indices: (0..len).collect(),
        });
    Ok(batches.collect())
}

//! Everything a resume needs, as one file that is written whole or not at all.
//!
//! Model, average, optimizer, position and history change together, so they live in one file:
//! a set of files could be left half old, half new by a power cut.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::ema::Ema;
use super::optimizer::Optimizer;
use crate::checkpoint::{self, CheckpointError, HostTensor, TensorFile};
use crate::model::Model;

/// One epoch's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Seconds of training and validation since the start, sessions added up.
    pub elapsed_s: f64,
    /// Mean training loss of the epoch, in nats.
    pub train_loss: f64,
    /// Top-1 on validation, a fraction; `None` without a validation split.
    pub val_top1: Option<f64>,
    /// Top-5 on validation, a fraction; `None` below six classes.
    pub val_top5: Option<f64>,
    /// Mean cross-entropy on validation, in nats.
    pub val_loss: Option<f64>,
    /// Learning rate of the epoch's last update.
    pub lr: f64,
    /// Training images a second of the epoch, validation not counted.
    pub images_per_s: f64,
    /// Share of the epoch's training time spent waiting for data, 0 to 1.
    pub waiting: f64,
}

/// The best epoch so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Its top-1 on validation.
    pub top1: f64,
    /// Its validation loss; it breaks ties.
    pub loss: f64,
}

/// Where a training stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Finished epochs.
    pub epoch: usize,
    /// Batches of the present epoch that are behind us.
    pub batch: usize,
    /// Optimizer updates since the start.
    pub update: u64,
    /// Seconds of training and validation since the start, sessions added up.
    pub elapsed_s: f64,
    /// Sum of the batches' losses of the present epoch.
    pub loss_sum: f64,
    /// Seconds of training within the present epoch.
    pub epoch_s: f64,
    /// Seconds of the present epoch spent waiting for data.
    pub waited_s: f64,
    /// Learning rate of the last update.
    pub lr: f64,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// Epochs since the best one.
    pub stale: usize,
    /// Figures of the finished epochs.
    pub history: Vec<EpochRecord>,
    /// Whether the training came to its own end.
    pub finished: bool,
    optimizer_updates: u64,
    ema_updates: u64,
}

/// File name of the state within `checkpoint/`.
pub const FILE: &str = "state.safetensors";

/// Writes the state of a training into `folder`.
///
/// # Errors
///
/// [`CheckpointError::Write`]; the previous state is then untouched.
pub fn save(
    folder: &Path,
    progress: &Progress,
    model: &Model,
    optimizer: &Optimizer,
    ema: Option<&Ema>,
) -> Result<(), CheckpointError> {
    let mut tensors: Vec<HostTensor> = checkpoint::host_tensors(model)
        .into_iter()
        .map(|(name, shape, values)| (format!("model.{name}"), shape, values))
        .collect();
    let mut add = |prefix: &str, name: &str, values: Vec<f32>| {
        tensors.push((format!("{prefix}{name}"), vec![values.len()], values));
    };
    for (name, value) in optimizer.state() {
        add("optimizer.", &name, checkpoint::host(value));
    }
    for (name, value) in ema.map(Ema::state).unwrap_or_default() {
        add("ema.", name, checkpoint::host(value.clone()));
    }
    let progress = Progress {
        optimizer_updates: optimizer.updates(),
        ema_updates: ema.map_or(0, Ema::updates),
        ..progress.clone()
    };
    checkpoint::write_tensors(&folder.join(FILE), &tensors, &progress)
}

/// A state read back, before it is put into a model.
#[derive(Debug)]
pub struct Saved {
    /// Where the training stood.
    pub progress: Progress,
    file: TensorFile,
}

impl Saved {
    /// Opens the state in `folder`.
    ///
    /// # Errors
    ///
    /// What [`TensorFile`] says of a missing or broken file.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let path: PathBuf = folder.join(FILE);
        let file = TensorFile::open(&path)?;
        let progress = file.meta()?;
        Ok(Self { progress, file })
    }

    /// Puts the state into a fresh model, its optimizer and its average.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Mismatch`] where the state belongs to another model.
    pub fn restore(
        &self,
        model: Model,
        optimizer: &mut Optimizer,
        ema: Option<&mut Ema>,
        device: &Device,
    ) -> Result<Model, CheckpointError> {
        let model = self.file.fill_from(model, device, "model.")?;
        let find = |prefix: &'static str| {
            move |name: &str| self.file.values(&format!("{prefix}{name}")).ok().flatten()
        };
        optimizer.restore(self.progress.optimizer_updates, device, find("optimizer."));
        if let Some(ema) = ema {
            ema.restore(self.progress.ema_updates, device, find("ema."));
        }
        Ok(model)
    }
}

//! Everything a resume needs, as one file that is written whole or not at all.
//!
//! Model, average, optimizer, position and history change together, so they live in one file:
//! a set of files could be left half old, half new by a power cut.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::ema::Ema;
use super::objective::Objective;
use super::optimizer::Optimizer;
use crate::checkpoint::{self, CheckpointError, HostTensor, TensorFile};
use crate::model::Model;

/// One epoch's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Seconds since the start, validation and saving included, sessions added up.
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
    /// Seconds since the start, validation and saving included, sessions added up.
    pub elapsed_s: f64,
    /// Sum of the batches' losses of the present epoch.
    pub loss_sum: f64,
    /// Seconds of training within the present epoch.
    pub epoch_s: f64,
    /// Seconds of the present epoch spent waiting for data.
    pub waited_s: f64,
    /// Training pictures of the finished epochs.
    #[serde(default)]
    pub images: u64,
    /// Seconds of training within the finished epochs.
    #[serde(default)]
    pub training_s: f64,
    /// Seconds that closing the last epoch took: what a time budget keeps for the next one.
    #[serde(default)]
    pub closing_s: f64,
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

/// Writes the state of a training into `folder`; `weights` are the model's.
///
/// # Errors
///
/// [`CheckpointError::Write`]; the previous state is then untouched.
pub fn save(
    folder: &Path,
    progress: &Progress,
    weights: Vec<HostTensor>,
    optimizer: &Optimizer,
    objective: &Objective,
    ema: Option<&Ema>,
) -> Result<(), CheckpointError> {
    let mut tensors: Vec<HostTensor> = weights
        .into_iter()
        .map(|(name, shape, values)| (format!("model.{name}"), shape, values))
        .collect();
    let mut add = |prefix: &str, name: &str, values: Vec<f32>| {
        tensors.push((format!("{prefix}{name}"), vec![values.len()], values));
    };
    for (name, value) in optimizer.state() {
        add("optimizer.", &name, checkpoint::host(value));
    }
    for (name, value) in objective.state() {
        add("objective.", &name, checkpoint::host(value));
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

    /// Puts the state into a fresh model, its optimizer, its objective and its average.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Mismatch`] where the state belongs to another model.
    pub fn restore(
        &self,
        model: Model,
        optimizer: &mut Optimizer,
        objective: &mut Objective,
        ema: Option<&mut Ema>,
        device: &Device,
    ) -> Result<Model, CheckpointError> {
        let model = self.file.fill_from(model, device, "model.")?;
        let find = |prefix: &'static str| {
            move |name: &str| self.file.values(&format!("{prefix}{name}")).ok().flatten()
        };
        optimizer.restore(self.progress.optimizer_updates, device, find("optimizer."));
        objective.restore(device, find("objective."));
        if let Some(ema) = ema {
            ema.restore(self.progress.ema_updates, device, find("ema."));
        }
        Ok(model)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::host_tensors;
    use crate::checkpoint::tests::tiny;
    use crate::model::{ModelConfig, parameters};
    use crate::train::optimizer::{GradientSum, OptimizerConfig};

    fn fresh(seed: u64) -> (Model, Optimizer, Ema) {
        let model = tiny().init(seed, &Device::flex().autodiff());
        let optimizer = Optimizer::new(OptimizerConfig::default(), &model);
        let ema = Ema::new(0.9, &model);
        (model, optimizer, ema)
    }

    /// An objective without a teacher, which has no state.
    fn plain(model: &Model) -> Objective {
        Objective::new(0.0, None, model, &Device::flex())
    }

    /// One update whose gradient is the weights themselves.
    fn update(model: Model, optimizer: &mut Optimizer, ema: &mut Ema) -> Model {
        let mut gradients = GradientSum::default();
        let values = parameters::values(&model);
        gradients.add(values.into_iter().map(|(_, value)| Some(value)).collect());
        let model = optimizer.step(model, gradients, 0.1);
        ema.update(&model);
        model
    }

    fn progress() -> Progress {
        Progress {
            epoch: 2,
            batch: 5,
            update: 17,
            elapsed_s: 0.1 + 0.2,
            best: Some(Best {
                epoch: 1,
                top1: 1.0 / 3.0,
                loss: 0.7,
            }),
            stale: 1,
            history: vec![EpochRecord {
                epoch: 1,
                elapsed_s: 0.2,
                train_loss: 1.1,
                val_top1: Some(1.0 / 3.0),
                val_top5: None,
                val_loss: Some(0.7),
                lr: 1e-3,
                images_per_s: 10.0,
                waiting: 0.01,
            }],
            ..Progress::default()
        }
    }

    fn saved(folder: &Path) -> (Model, Optimizer, Ema) {
        let (model, mut optimizer, mut ema) = fresh(1);
        let model = update(model, &mut optimizer, &mut ema);
        let tensors = host_tensors(&model);
        save(
            folder,
            &progress(),
            tensors,
            &optimizer,
            &plain(&model),
            Some(&ema),
        )
        .unwrap();
        (model, optimizer, ema)
    }

    #[test]
    fn a_restored_training_continues_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let (model, mut optimizer, mut ema) = saved(folder.path());
        let saved = Saved::open(folder.path()).unwrap();
        assert_eq!(
            Progress {
                optimizer_updates: 1,
                ema_updates: 1,
                ..progress()
            },
            saved.progress
        );
        let (other, mut optimizer2, mut ema2) = fresh(2);
        let other = saved
            .restore(
                other,
                &mut optimizer2,
                &mut plain(&model),
                Some(&mut ema2),
                &Device::flex(),
            )
            .unwrap();
        let model = update(model, &mut optimizer, &mut ema);
        let other = update(other, &mut optimizer2, &mut ema2);
        assert_eq!(host_tensors(&model), host_tensors(&other));
        assert_eq!(
            host_tensors(&ema.apply(&model)),
            host_tensors(&ema2.apply(&other))
        );
    }

    #[test]
    fn a_state_of_another_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        saved(folder.path());
        let device = Device::flex().autodiff();
        let other = ModelConfig::preset("resnet9", 8, None, 3)
            .unwrap()
            .init(0, &device);
        let mut optimizer = Optimizer::new(OptimizerConfig::default(), &other);
        let mut objective = plain(&other);
        let saved = Saved::open(folder.path()).unwrap();
        let error = saved
            .restore(other, &mut optimizer, &mut objective, None, &Device::flex())
            .unwrap_err();
        assert!(matches!(error, CheckpointError::Mismatch { .. }), "{error}");
    }

    #[test]
    fn a_failed_save_leaves_the_old_state() {
        let folder = tempfile::tempdir().unwrap();
        let (model, optimizer, ema) = saved(folder.path());
        let path = folder.path().join(FILE);
        let before = std::fs::read(&path).unwrap();
        let gone = folder.path().join("gone");
        let tensors = host_tensors(&model);
        let error = save(
            &gone,
            &progress(),
            tensors,
            &optimizer,
            &plain(&model),
            Some(&ema),
        )
        .unwrap_err();
        assert!(matches!(error, CheckpointError::Write { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, &before[..before.len() / 2]).unwrap();
        let error = Saved::open(folder.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::Corrupt { .. }), "{error}");
    }
}

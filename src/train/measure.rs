//! What one update costs here, measured.

use std::convert::Infallible;
use std::time::Instant;

use burn::tensor::Device;

use super::finetune::FinetuneConfig;
use super::learner::{Learner, NotTaken, Step};
use super::optimizer::OptimizerConfig;
use super::task::Task;
use super::trainer::TrainError;
use crate::data::{Batch, Targets};
use crate::model::{ModelConfig, Noise};
use crate::ops::Precision;

/// Small enough for the second update to be like the first.
const LEARNING_RATE: f64 = 1e-6;

/// What is to be measured.
#[derive(Debug)]
pub struct Workload<'a> {
    /// The model.
    pub model: &'a ModelConfig,
    /// The optimizer.
    pub optimizer: &'a OptimizerConfig,
    /// What is frozen.
    pub finetune: &'a FinetuneConfig,
    /// Pictures a batch.
    pub batch_size: usize,
    /// Batches an update.
    pub accumulate: usize,
    /// What the operands of matrix products are rounded to.
    pub precision: Precision,
}

impl Workload<'_> {
    /// A batch of noise, whose labels are all classes in turn.
    pub fn batch(&self) -> Batch {
        let (len, image_size) = (self.batch_size, self.model.image_size());
        let classes = self.model.num_classes();
        Batch {
            images: (0..len * 3 * image_size * image_size)
                .map(|i| ((i * 2_654_435_761) % 1_000) as f32 / 500.0 - 1.0)
                .collect(),
            image_size,
            len,
            targets: Targets::Hard((0..len).map(|i| i % classes).collect()),
            indices: (0..len).collect(),
        }
    }

    /// A learner of this task on a device, from the first seed.
    pub fn learner<'t>(&self, task: Box<dyn Task + 't>, device: &Device) -> Learner<'t> {
        let model = self.model.init(0, &device.clone().autodiff());
        Learner::new(
            model,
            task,
            self.optimizer,
            self.finetune,
            0.0,
            self.precision,
        )
    }

    /// Seconds of one update, after one that is not counted.
    ///
    /// # Errors
    ///
    /// Where an update of noise gives a loss or a gradient that is not finite.
    pub fn seconds_per_update(
        &self,
        task: Box<dyn Task + '_>,
        device: &Device,
    ) -> Result<f64, TrainError> {
        let mut learner = self.learner(task, device);
        let mut seconds = 0.0;
        for update in 0..2 {
            let start = Instant::now();
            let step = Step {
                lr: LEARNING_RATE,
                // At its start, where all that is ever done is done.
                spent: 0.0,
                batches: self.accumulate,
                noise: Noise::new(0, update),
            };
            // Reading the norm waits for the device.
            let taken = learner.update(step, || Ok::<_, Infallible>(self.batch()));
            if let Err(NotTaken::NotFinite { what, value }) = taken {
                let (epoch, lr) = (1, LEARNING_RATE);
                return Err(TrainError::NotFinite {
                    what,
                    value,
                    update,
                    epoch,
                    lr,
                });
            }
            seconds = start.elapsed().as_secs_f64();
        }
        Ok(seconds)
    }
}

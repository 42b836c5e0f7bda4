//! What one update, or the features of one batch, cost here, measured.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};

use super::finetune::FinetuneConfig;
use super::learner::{Learner, NotTaken, Step};
use super::optimizer::OptimizerConfig;
use super::task::Task;
use super::trainer::TrainError;
use crate::data::{Batch, Targets};
use crate::device::peak_memory_bytes;
use crate::eval::input;
use crate::model::{Model, ModelConfig, Noise, parameters};
use crate::ops::{Precision, Prepared, precision::product_limit};
use crate::stop::Stop;

/// Small enough for the second update to be like the first.
const LEARNING_RATE: f64 = 1e-6;

/// Share of what products in the cache reach that a whole update reaches, about.
const REACHED: f64 = 0.5;

/// Pictures of the first update that is run, if they do not take long.
const FEW: usize = 2;

/// What one update, or one pass of a batch, costs, measured or extrapolated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateCost {
    /// Seconds of the whole of it.
    pub seconds: f64,
    /// Peak memory of a process that takes it, in bytes; `None` if the system does not report it.
    pub peak_memory_bytes: Option<u64>,
    /// Pictures of the largest one that was run; 0 where even a small one would have taken too long, and the
    /// cost follows from the speed of matrix products here.
    pub measured: usize,
}

/// An update of some pictures that was run.
#[derive(Debug, Clone, Copy)]
struct Run {
    pictures: usize,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

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
        self.batch_of(self.batch_size)
    }

    fn batch_of(&self, len: usize) -> Batch {
        noise(self.model, len)
    }

    /// A learner of this task on a device, from the first seed.
    pub fn learner<'t>(&self, task: Box<dyn Task + 't>, device: &Device) -> Learner<'t> {
        self.learner_of(self.model.init(0, &device.clone().autodiff()), task)
    }

    /// A learner with weights of noise: what they are does not change how long an update takes, and drawing those of a
    /// large model takes its time.
    fn hasty_learner<'t>(&self, task: Box<dyn Task + 't>, device: &Device) -> Learner<'t> {
        let noise: Vec<f32> = (0..1009)
            .map(|i| ((i * 617) % 1009) as f32 / 504.0 - 1.0)
            .collect();
        let model = parameters::replace(
            self.model.init_constant(&device.clone().autodiff()),
            |_, shape| {
                let count: usize = shape.iter().product();
                // Norms and biases stay as they are.
                let (first, last) = (*shape.first()?, *shape.last()?);
                let fan_in = (count / first.min(last).max(1)) as f32;
                (shape.len() > 1).then(|| {
                    let scaled: Vec<f32> =
                        noise.iter().map(|value| value / fan_in.sqrt()).collect();
                    let mut values = scaled.repeat(count.div_ceil(scaled.len()));
                    values.truncate(count);
                    Tensor::from_floats(values.as_slice(), device)
                })
            },
        );
        self.learner_of(model, task)
    }

    fn learner_of<'t>(&self, model: Model, task: Box<dyn Task + 't>) -> Learner<'t> {
        Learner::new(
            model,
            task,
            self.optimizer,
            self.finetune,
            0.0,
            self.precision,
            0,
        )
    }

    /// What one update costs, found out in about `limit`: by the second of two whole updates, or, where these would
    /// take longer, by smaller ones.
    ///
    /// # Errors
    ///
    /// Where an update of noise gives a loss or a gradient that is not finite.
    pub fn cost_of_update(
        &self,
        task: Box<dyn Task + '_>,
        device: &Device,
        limit: Duration,
    ) -> Result<UpdateCost, TrainError> {
        let began = Instant::now();
        let whole = self.batch_size * self.accumulate;
        let limit_s = limit.as_secs_f64();
        let left_s = || limit_s - began.elapsed().as_secs_f64();
        // A backward pass takes twice as many operations as a forward pass.
        let operations = 3.0 * self.model.flops() as f64;
        let rate = product_limit(device, self.precision);
        let picture_s = rate.map_or(0.0, |rate| operations / (REACHED * rate));
        if picture_s > limit_s {
            return Ok(UpdateCost {
                seconds: whole as f64 * picture_s,
                peak_memory_bytes: None,
                measured: 0,
            });
        }
        let few = match 4.0 * FEW as f64 * picture_s < limit_s {
            true => FEW.min(self.batch_size),
            false => 1,
        };
        let mut learner = self.hasty_learner(task, device);
        let mut updates = 0;
        let mut update = |pictures: usize| -> Result<Run, TrainError> {
            let batches = pictures.div_ceil(self.batch_size);
            let batch = self.batch_of(pictures / batches);
            let start = Instant::now();
            let step = Step {
                lr: LEARNING_RATE,
                // At its start, where all that is ever done is done.
                spent: 0.0,
                batches,
                noise: Noise::new(0, updates),
                stop: Stop::default(),
            };
            // Reading the norm waits for the device.
            let taken = learner.update(step, || Ok::<_, Infallible>(batch.clone()));
            if let Err(NotTaken::NotFinite { what, value }) = taken {
                let (epoch, lr) = (1, LEARNING_RATE);
                return Err(TrainError::NotFinite {
                    what,
                    value,
                    update: updates,
                    epoch,
                    lr,
                });
            }
            updates += 1;
            Ok(Run {
                pictures,
                seconds: start.elapsed().as_secs_f64(),
                peak_memory_bytes: peak_memory_bytes(),
            })
        };
        // The first update prepares or compiles, so the second one counts, if there is time for it.
        let mut first = update(few)?;
        if first.seconds < left_s() / 2.0 {
            first = update(few)?;
        }
        let mut runs = vec![first];
        loop {
            let last = runs[runs.len() - 1];
            if last.pictures == whole {
                break;
            }
            if 2.0 * seconds_of(whole, &runs) <= left_s() {
                update(whole)?;
                runs.push(update(whole)?);
                continue;
            }
            let larger = (4 * last.pictures).min(self.batch_size);
            if larger == last.pictures || seconds_of(larger, &runs) > left_s() {
                break;
            }
            runs.push(update(larger)?);
        }
        Ok(UpdateCost {
            seconds: seconds_of(whole, &runs),
            peak_memory_bytes: memory_of(self.batch_size, &runs),
            measured: runs[runs.len() - 1].pictures,
        })
    }
}

/// What the features of a batch of noise cost, found out in about `limit`: by the second of two passes of the whole
/// batch, or, where these would take longer, of fewer pictures. `model` is one of `config`, without autodiff.
pub fn cost_of_features(
    model: &Model,
    config: &ModelConfig,
    batch_size: usize,
    precision: Precision,
    device: &Device,
    limit: Duration,
) -> UpdateCost {
    let began = Instant::now();
    let left_s = || limit.as_secs_f64() - began.elapsed().as_secs_f64();
    let rate = product_limit(device, precision);
    let picture_s = rate.map_or(0.0, |rate| config.flops() as f64 / (REACHED * rate));
    if 2.0 * picture_s > limit.as_secs_f64() {
        return UpdateCost {
            seconds: batch_size as f64 * picture_s,
            peak_memory_bytes: None,
            measured: 0,
        };
    }
    let prepared = Prepared::default();
    let pass = |pictures: usize| -> Run {
        let start = Instant::now();
        let images = input(noise(config, pictures), device);
        let features = model.infer_features(images, precision, &prepared);
        // Reading them waits for the device.
        let _ = features.try_into_vec_as::<f32>();
        Run {
            pictures,
            seconds: start.elapsed().as_secs_f64(),
            peak_memory_bytes: peak_memory_bytes(),
        }
    };
    // The first pass of a size prepares weights or compiles, so the second one counts.
    let second = |pictures: usize| {
        pass(pictures);
        pass(pictures)
    };
    let mut runs = vec![second(1)];
    loop {
        let last = runs[runs.len() - 1].pictures;
        let larger = (4 * last).min(batch_size);
        if larger == last || 2.0 * seconds_of(larger, &runs) > left_s() {
            break;
        }
        runs.push(second(larger));
    }
    UpdateCost {
        seconds: seconds_of(batch_size, &runs),
        peak_memory_bytes: memory_of(batch_size, &runs),
        measured: runs[runs.len() - 1].pictures,
    }
}

/// A batch of noise, whose labels are all classes in turn.
fn noise(model: &ModelConfig, len: usize) -> Batch {
    let image_size = model.image_size();
    let classes = model.num_classes();
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

/// Seconds of an update of so many pictures: along the line through the last two that were run, since a part of an
/// update does not depend on their number; in proportion, which is at most too long, to a single one.
fn seconds_of(pictures: usize, runs: &[Run]) -> f64 {
    let last = runs[runs.len() - 1];
    let per_picture = match runs {
        [.., before, last] => {
            (last.seconds - before.seconds) / (last.pictures - before.pictures) as f64
        }
        _ => 0.0,
    };
    // A small update that was disturbed would make the larger one look free.
    let per_picture = match per_picture > 0.0 {
        true => per_picture,
        false => last.seconds / last.pictures as f64,
    };
    last.seconds + per_picture * (pictures as f64 - last.pictures as f64)
}

/// Peak memory of a batch of so many pictures, likewise; the batches of an update come one after the other.
fn memory_of(pictures: usize, runs: &[Run]) -> Option<u64> {
    let last = runs[runs.len() - 1];
    let peak = last.peak_memory_bytes?;
    let [.., before, _] = runs else {
        return Some(peak);
    };
    let more = peak.saturating_sub(before.peak_memory_bytes?) as f64;
    let per_picture = more / (last.pictures - before.pictures) as f64;
    Some(peak + (per_picture * pictures.saturating_sub(last.pictures) as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Classification;

    fn run(pictures: usize, seconds: f64, megabytes: u64) -> Run {
        Run {
            pictures,
            seconds,
            peak_memory_bytes: Some(megabytes << 20),
        }
    }

    #[test]
    fn larger_updates_lie_on_the_line_through_smaller_ones() {
        // Half a second for the weights, a tenth for each picture.
        let runs = [run(2, 0.7, 90), run(8, 1.3, 120)];
        assert!((seconds_of(128, &runs) - 13.3).abs() < 1e-9);
        assert_eq!(memory_of(32, &runs), Some(240 << 20));
        assert_eq!(memory_of(8, &runs), Some(120 << 20));
        assert!((seconds_of(128, &runs[..1]) - 0.7 * 64.0).abs() < 1e-9);
        // What was run is what it took, and a disturbed small one does not make the large one free.
        assert_eq!(seconds_of(8, &runs), 1.3);
        assert!((seconds_of(16, &[run(2, 3.0, 0), run(8, 1.0, 0)]) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn features_are_measured_in_whole_batches_or_in_what_there_is_time_for() {
        let device = Device::flex();
        let config = ModelConfig::preset("vit-micro", 8, None, 3).expect("a preset");
        let model = config.init_constant(&device);
        let cost = |limit| cost_of_features(&model, &config, 6, Precision::F32, &device, limit);
        let whole = cost(Duration::from_secs(600));
        assert!(whole.measured == 6 && whole.seconds > 0.0, "{whole:?}");
        let none = cost(Duration::ZERO);
        assert!(none.measured < 6 && none.seconds > 0.0, "{none:?}");
    }

    #[test]
    fn what_takes_too_long_is_not_tried_and_what_does_not_is_measured_whole() {
        let device = Device::flex();
        let model = ModelConfig::preset("vit-micro", 8, None, 3).expect("a preset");
        let workload = Workload {
            model: &model,
            optimizer: &OptimizerConfig::default(),
            finetune: &FinetuneConfig::default(),
            batch_size: 6,
            accumulate: 2,
            precision: Precision::F32,
        };
        let cost = |limit| {
            let task = Box::new(Classification::new(0.1, &device));
            let cost = workload.cost_of_update(task, &device, limit);
            cost.expect("an update of noise is finite")
        };
        let whole = cost(Duration::from_secs(600));
        assert_eq!(whole.measured, 12);
        assert!(whole.seconds > 0.0, "{whole:?}");
        let none = cost(Duration::ZERO);
        assert!(none.measured < 12 && none.seconds > 0.0, "{none:?}");
    }
}

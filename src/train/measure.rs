//! What one update costs here, measured.

use std::time::Instant;

use burn::tensor::Device;

use super::distillation::Distillation;
use super::finetune::FinetuneConfig;
use super::objective::Objective;
use super::optimizer::{GradientSum, Optimizer, OptimizerConfig};
use crate::data::{Batch, Targets};
use crate::model::{ModelConfig, Noise, Pass, parameters};
use crate::ops::Precision;

/// Seconds of one optimizer update over `accumulate` batches of `batch_size` pictures of noise,
/// after one that is not counted.
#[allow(clippy::too_many_arguments)]
pub fn seconds_per_update(
    model: &ModelConfig,
    optimizer: &OptimizerConfig,
    finetune: &FinetuneConfig,
    distillation: Option<Distillation>,
    batch_size: usize,
    accumulate: usize,
    precision: Precision,
    device: &Device,
) -> f64 {
    let device = device.clone().autodiff();
    let size = model.image_size();
    let batch = || Batch {
        images: (0..batch_size * 3 * size * size)
            .map(|i| ((i * 2_654_435_761) % 1_000) as f32 / 500.0 - 1.0)
            .collect(),
        image_size: size,
        len: batch_size,
        targets: Targets::Hard((0..batch_size).map(|i| i % model.num_classes()).collect()),
        indices: (0..batch_size).collect(),
    };
    let mut network = finetune.freeze(model.init(0, &device));
    let mut optimizer = Optimizer::new(optimizer.clone(), &network).with_precision(precision);
    let mut objective = Objective::new(0.1, distillation, &network, &device);
    let mut seconds = 0.0;
    for update in 0..2 {
        let start = Instant::now();
        let mut gradients = GradientSum::default();
        let mut noise = Noise::new(0, update);
        for _ in 0..accumulate {
            let mut pass = Pass::training(precision, &mut noise);
            // At its start, where all that is ever done is done.
            let loss = objective.loss(&network, batch(), 0.0, &mut pass);
            let mut grads = loss.backward();
            gradients.add(parameters::take_gradients(&network, &mut grads));
            objective.collect(&mut grads);
        }
        // Reading the norm waits for the device.
        optimizer.clip(&mut gradients);
        network = optimizer.step(network, gradients, 1e-6);
        objective.step(update + 1);
        seconds = start.elapsed().as_secs_f64();
    }
    seconds
}

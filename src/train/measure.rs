//! What one update costs here, measured.

use std::time::Instant;

use burn::tensor::Device;

use super::classification::{cross_entropy, soft_targets};
use super::optimizer::{GradientSum, Optimizer, OptimizerConfig};
use crate::data::{Batch, Targets};
use crate::eval;
use crate::model::{ModelConfig, Noise, Pass, parameters};
use crate::ops::Precision;

/// Seconds of one optimizer update over `accumulate` batches of `batch_size` pictures of noise,
/// after one that is not counted.
pub fn seconds_per_update(
    model: &ModelConfig,
    optimizer: &OptimizerConfig,
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
    let mut network = model.init(0, &device);
    let mut optimizer = Optimizer::new(optimizer.clone(), &network);
    let mut seconds = 0.0;
    for update in 0..2 {
        let start = Instant::now();
        let mut gradients = GradientSum::default();
        let mut noise = Noise::new(0, update);
        for _ in 0..accumulate {
            let batch = batch();
            let targets = soft_targets(&batch.targets, model.num_classes(), 0.1, &device);
            let logits = network.forward(
                eval::input(batch, &device),
                &mut Pass::training(precision, &mut noise),
            );
            let mut grads = cross_entropy(logits, targets).backward();
            gradients.add(parameters::take_gradients(&network, &mut grads));
        }
        // Reading the norm waits for the device.
        optimizer.clip(&mut gradients);
        network = optimizer.step(network, gradients, 1e-6);
        seconds = start.elapsed().as_secs_f64();
    }
    seconds
}

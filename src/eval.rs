//! One honest pass over a split: a model's logits, and what they are worth.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};

use crate::data::{Batch, DataError, EvalLoader, Targets};
use crate::metrics::{self, EvalReport};
use crate::model::Model;
use crate::ops::{Precision, Prepared};

/// A model's answers to one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// Row-major `[n, K]`.
    pub logits: Vec<f32>,
    /// K.
    pub num_classes: usize,
    /// True classes, in the same order.
    pub labels: Vec<usize>,
    /// Names of the pictures, in the same order.
    pub names: Vec<String>,
    /// Pictures a second, decoding included.
    pub images_per_s: f64,
}

/// A batch's pictures as a tensor `[B, 3, H, W]`.
pub fn input(batch: Batch, device: &Device) -> Tensor<4> {
    let shape = [batch.len, 3, batch.image_size, batch.image_size];
    Tensor::from_data(TensorData::new(batch.images, shape), device)
}

/// Runs `model` over every picture of `loader`.
///
/// The model must be without autodiff, on `device`. `seen` is told of each batch's pictures.
///
/// # Errors
///
/// [`DataError`] where a picture can no longer be read.
pub fn predict(
    model: &Model,
    loader: &EvalLoader,
    device: &Device,
    precision: Precision,
    seen: &mut dyn FnMut(usize),
) -> Result<Predictions, DataError> {
    let start = Instant::now();
    let prepared = Prepared::default();
    let mut logits = Vec::new();
    let mut labels = Vec::new();
    let mut names = Vec::new();
    let mut num_classes = 0;
    for batch in loader.pass() {
        let batch = batch?;
        let count = batch.len;
        match &batch.targets {
            Targets::Hard(hard) => labels.extend_from_slice(hard),
            Targets::Mixed { a, .. } => labels.extend_from_slice(a),
        }
        for &index in &batch.indices {
            names.push(loader.pictures().names()[index].clone());
        }
        let output = model.infer(input(batch, device), precision, &prepared);
        num_classes = output.dims()[1];
        logits.extend(
            output
                .try_into_vec_as::<f32>()
                .expect("logits read back as f32"),
        );
        seen(count);
    }
    let images_per_s = labels.len() as f64 / start.elapsed().as_secs_f64().max(1e-9);
    Ok(Predictions {
        logits,
        num_classes,
        labels,
        names,
        images_per_s,
    })
}

/// [`predict`], and the report on it.
///
/// # Errors
///
/// As for [`predict`].
pub fn evaluate(
    model: &Model,
    loader: &EvalLoader,
    device: &Device,
    classes: &[String],
) -> Result<EvalReport, DataError> {
    // In f32, as `eval` does unless asked otherwise.
    let predictions = predict(model, loader, device, Precision::F32, &mut |_| {})?;
    Ok(report(&predictions, classes))
}

/// The figures of a pass.
pub fn report(predictions: &Predictions, classes: &[String]) -> EvalReport {
    metrics::evaluate(
        &predictions.logits,
        &predictions.labels,
        &predictions.names,
        classes,
    )
}

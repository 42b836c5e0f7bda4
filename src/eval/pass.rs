//! One pass of a model over a split.

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};

use crate::data::{Batch, DataError, EvalLoader, Targets};
use crate::metrics::{self, EvalReport};
use crate::model::Model;
use crate::ops::{Precision, Prepared};

use super::tta::Tta;

/// A model's logits for every picture of a split.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// `[n, K]`, row-major.
    pub logits: Vec<f32>,
    /// K: number of classes.
    pub num_classes: usize,
    /// True classes, `[n]`.
    pub labels: Vec<usize>,
    /// Names of the pictures, `[n]`.
    pub names: Vec<String>,
    /// Pictures per second, decoding included.
    pub images_per_s: f64,
}

/// A batch's pictures as a tensor `[B, 3, S, S]`.
pub fn input(batch: Batch, device: &Device) -> Tensor<4> {
    let shape = [batch.len, 3, batch.image_size, batch.image_size];
    Tensor::from_data(TensorData::new(batch.images, shape), device)
}

/// Runs `model` over every picture of `loader`.
///
/// The model must be without autodiff, on `device`. `seen` is called with the number of pictures of each batch.
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
    let prepared = Prepared::default();
    pass(loader, seen, |batch| {
        model.infer(input(batch, device), precision, &prepared)
    })
}

/// [`predict`], with what the head sees of every picture.
///
/// # Errors
///
/// As [`predict`].
pub fn predict_with_features(
    model: &Model,
    loader: &EvalLoader,
    device: &Device,
    precision: Precision,
) -> Result<(Predictions, SplitFeatures), DataError> {
    let prepared = Prepared::default();
    let mut values = Vec::new();
    let predictions = pass(loader, &mut |_| {}, |batch| {
        let (logits, features) =
            model.infer_with_features(input(batch, device), precision, &prepared);
        let features = features.try_into_vec_as::<f32>();
        values.extend(features.expect("features read back as f32"));
        logits
    })?;
    let features = SplitFeatures {
        values,
        width: model.width(),
        labels: predictions.labels.clone(),
        views: 1,
    };
    Ok((predictions, features))
}

/// [`predict`] with the mean of the logits of several views of each picture.
///
/// # Errors
///
/// As [`predict`].
pub fn predict_augmented(
    model: &Model,
    loader: &EvalLoader,
    device: &Device,
    precision: Precision,
    tta: Tta,
) -> Result<Predictions, DataError> {
    let prepared = Prepared::default();
    pass(loader, &mut |_| {}, |batch| {
        views(tta, batch, |batch| {
            model.infer(input(batch, device), precision, &prepared)
        })
    })
}

/// What a model's head sees of every picture of a split.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitFeatures {
    /// `[n·V, D]`, row by row: the V views of a picture after each other.
    pub values: Vec<f32>,
    /// D.
    pub width: usize,
    /// True classes, `[n·V]`.
    pub labels: Vec<usize>,
    /// V: 1, or 2 with the mirror image.
    pub views: usize,
}

/// Features of every picture of `loader`, and of its mirror image where `mirrored`.
///
/// The model must be without autodiff, on `device`. `seen` is called with the number of pictures of each batch.
///
/// # Errors
///
/// As [`predict`].
pub fn features(
    model: &Model,
    loader: &EvalLoader,
    device: &Device,
    precision: Precision,
    mirrored: bool,
    seen: &mut dyn FnMut(usize),
) -> Result<SplitFeatures, DataError> {
    let prepared = Prepared::default();
    let width = model.width();
    let mirror = mirrored.then(|| Tta::Mirror.views()[1]);
    let views = 1 + usize::from(mirrored);
    let mut values = Vec::new();
    let mut labels = Vec::new();
    for batch in loader.pass() {
        let batch = batch?;
        let count = batch.len;
        let Targets::Hard(hard) = &batch.targets else {
            unreachable!("a loader of evaluation mixes nothing")
        };
        labels.extend(hard.iter().flat_map(|&label| vec![label; views]));
        let mirrored = mirror.map(|mirror| Batch {
            images: mirror.of(&batch.images, batch.image_size),
            ..batch.clone()
        });
        let of_views = [Some(batch), mirrored].into_iter().flatten().map(|batch| {
            let features = model.infer_features(input(batch, device), precision, &prepared);
            let values = features.try_into_vec_as::<f32>();
            values.expect("features read back as f32")
        });
        let of_views: Vec<Vec<f32>> = of_views.collect();
        for picture in 0..count {
            for view in &of_views {
                values.extend_from_slice(&view[picture * width..][..width]);
            }
        }
        seen(count);
    }
    Ok(SplitFeatures {
        values,
        width,
        labels,
        views,
    })
}

/// The mean of `answer` over the views of a batch.
fn views(tta: Tta, batch: Batch, answer: impl Fn(Batch) -> Tensor<2>) -> Tensor<2> {
    let answers = tta.views().into_iter().map(|view| {
        let seen = Batch {
            images: view.of(&batch.images, batch.image_size),
            ..batch.clone()
        };
        answer(seen) * view.weight
    });
    answers
        .reduce(|sum, logits| sum + logits)
        .expect("there is at least one view")
}

/// Runs `answer`, which maps a batch to its logits `[B, K]`, over every picture of `loader`.
fn pass(
    loader: &EvalLoader,
    seen: &mut dyn FnMut(usize),
    mut answer: impl FnMut(Batch) -> Tensor<2>,
) -> Result<Predictions, DataError> {
    let start = Instant::now();
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
        let output = answer(batch);
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

/// Seconds that [`predict`] would take, from a few pictures: those of a whole batch where that stays within
/// `limit`, else eight.
///
/// # Errors
///
/// As [`predict`].
pub fn seconds_of_pass(
    model: &Model,
    loader: &EvalLoader,
    device: &Device,
    precision: Precision,
    limit: Duration,
) -> Result<f64, DataError> {
    const FEW: usize = 8;
    let prepared = Prepared::default();
    let time = |count: usize| -> Result<f64, DataError> {
        let start = Instant::now();
        let images = input(loader.first(count)?, device);
        // Reading the logits waits for the device.
        let _ = model
            .infer(images, precision, &prepared)
            .try_into_vec_as::<f32>();
        Ok(start.elapsed().as_secs_f64())
    };
    let (total, whole) = (loader.pictures().len(), loader.batch_size());
    // The first pass of a size prepares weights or compiles, so the second one counts.
    let second = |count: usize| time(count).and_then(|_| time(count));
    let few = FEW.min(whole);
    let mut seconds_per_picture = second(few)? / few as f64;
    if whole > few && 2.0 * whole as f64 * seconds_per_picture <= limit.as_secs_f64() {
        seconds_per_picture = second(whole)? / whole as f64;
    }
    Ok(seconds_per_picture * total as f64)
}

/// [`predict`] and [`report`] in one.
///
/// # Errors
///
/// As [`predict`].
pub fn evaluate(
    model: &Model,
    loader: &EvalLoader,
    device: &Device,
    precision: Precision,
    classes: &[String],
) -> Result<EvalReport, DataError> {
    let predictions = predict(model, loader, device, precision, &mut |_| {})?;
    Ok(report(&predictions, classes))
}

/// The figures of a pass; `classes` are the class names, `[K]`.
pub fn report(predictions: &Predictions, classes: &[String]) -> EvalReport {
    metrics::evaluate(
        &predictions.logits,
        &predictions.labels,
        &predictions.names,
        classes,
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{AirbenchConfig, ModelConfig, parameters};

    const SIDE: usize = 11;

    /// A model whose answers depend on where things stand.
    fn model() -> Model {
        let config = ModelConfig::Airbench(AirbenchConfig {
            image_size: SIDE,
            num_classes: 3,
            widths: [3, 4, 5],
            depth: 1,
            residual: false,
            stem_kernel: 2,
            whiten: true,
        });
        let model = config.init(1, &Device::flex());
        parameters::replace(model, |path, shape| {
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> = (0..count).map(|i| ((i * 37) % 19) as f32 - 9.0).collect();
            let head = path.ends_with("head.weight");
            head.then(|| Tensor::from_floats(values.as_slice(), &Device::flex()))
        })
    }

    fn batch(mirrored: bool) -> Batch {
        let value = |i: usize| ((i * 7919) % 211) as f32 / 100.0 - 1.0;
        let place = |i: usize| match mirrored {
            true => i / SIDE * SIDE + SIDE - 1 - i % SIDE,
            false => i,
        };
        Batch {
            images: (0..2 * 3 * SIDE * SIDE).map(|i| value(place(i))).collect(),
            image_size: SIDE,
            len: 2,
            targets: Targets::Hard(vec![0, 1]),
            indices: vec![0, 1],
        }
    }

    #[test]
    fn a_picture_and_its_mirror_image_get_their_mean() {
        let model = model();
        let answer = |batch| {
            let images = input(batch, &Device::flex());
            model.infer(images, Precision::F32, &Prepared::default())
        };
        let values = |logits: Tensor<2>| logits.try_into_vec_as::<f32>().unwrap();
        let [plain, mirrored] = [false, true].map(|side| values(answer(batch(side))));
        assert_ne!(plain, mirrored);
        let augmented = |side| values(views(Tta::Mirror, batch(side), answer));
        for ((mean, a), b) in augmented(false).iter().zip(&plain).zip(&mirrored) {
            assert!((mean - (a + b) / 2.0).abs() < 1e-6, "{mean} {a} {b}");
        }
        assert_eq!(augmented(false), augmented(true));
        assert_ne!(
            values(views(Tta::MirrorShift, batch(false), answer)),
            augmented(false)
        );
    }
}

//! The cost of a training, estimated from one update, and that of a probe, from a few pictures.

use std::time::{Duration, Instant};

use super::devices::{Devices, precision};
use super::error::RunError;
use super::pictures::{kept_bytes, load};
use super::plan::Plan;
use super::probe::backbone;
use super::train::measure_update;
use crate::data::{PicturesOptions, Sample};
use crate::device::Selected;
use crate::recipe::ProbeViews;
use crate::stop::Stop;
use crate::train::{Budget, UpdateCost, cost_of_features};

/// The estimated cost of a training on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Seconds of one update on pictures of full size with all their tokens, measured or extrapolated.
    pub update_s: f64,
    /// Pictures of one update.
    pub update_pictures: usize,
    /// Pictures of the largest update that was run: fewer where a whole one would have taken too long, and none
    /// where the estimate follows from the speed of matrix products.
    pub measured_pictures: usize,
    /// Mean work of an update under the curriculum, relative to that one, 0 to 1.
    pub work: f64,
    /// Number of updates.
    pub updates: f64,
    /// Seconds of training, without validation.
    pub training_s: f64,
    /// Mean floating-point operations of an update.
    pub flops_per_update: u64,
    /// Peak memory of the measured update, in bytes; `None` if the system does not report it.
    pub peak_memory_bytes: Option<u64>,
    /// Memory for decoded pictures, in bytes.
    pub pictures_bytes: u64,
}

impl Estimate {
    /// Memory of the training, in bytes; `None` if the system does not report it.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.peak_memory_bytes
            .map(|peak| peak + self.pictures_bytes)
    }
}

/// Runs a few updates on noise, for about `limit`, and estimates the cost of the whole training from them.
///
/// # Errors
///
/// [`RunError`]: the device cannot compute in the recipe's precision, or the teacher cannot be loaded.
pub fn estimate<'a>(
    plan: &Plan,
    devices: impl Into<Devices<'a>>,
    limit: Duration,
) -> Result<Estimate, RunError> {
    let devices = devices.into();
    let recipe = &plan.recipe;
    let UpdateCost {
        seconds: update_s,
        peak_memory_bytes,
        measured,
    } = measure_update(plan, precision(recipe, devices.student)?, devices, limit)?;
    let budget = recipe.budget()?;
    let work = plan.curriculum.mean_work(matches!(budget, Budget::Time(_)));
    let mean_update_s = work * update_s;
    let updates = match budget {
        Budget::Time(time) => time.as_secs_f64() / mean_update_s,
        _ => plan.updates().unwrap_or(0.0),
    };
    let cache_bytes = recipe.data.cache_mb as u64 * 1024 * 1024;
    let pictures_bytes = kept_bytes(plan)
        .map(|bytes| bytes.min(cache_bytes))
        .iter()
        .sum();
    Ok(Estimate {
        update_s,
        update_pictures: plan.pictures_per_update(),
        measured_pictures: measured,
        work,
        updates,
        training_s: updates * mean_update_s,
        flops_per_update: plan.flops_per_update(work).round() as u64,
        peak_memory_bytes,
        pictures_bytes,
    })
}

/// The estimated cost of a probe on this machine, without its fit and its evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeEstimate {
    /// D, the width of the features.
    pub width: usize,
    /// Views of a training picture: 1, or 2 with its mirror image.
    pub views: usize,
    /// Pictures whose features are worked out, views counted: those of train and val.
    pub pictures: usize,
    /// Pictures that were decoded for this estimate.
    pub decoded: usize,
    /// Seconds to decode all pictures.
    pub decoding_s: f64,
    /// Pictures of the largest batch whose features were worked out; none where the estimate follows from the speed
    /// of matrix products.
    pub measured_pictures: usize,
    /// Seconds to work out all features.
    pub features_s: f64,
    /// Peak memory of a batch, in bytes; `None` if the system does not report it.
    pub peak_memory_bytes: Option<u64>,
    /// Memory for decoded pictures and features, in bytes.
    pub kept_bytes: u64,
}

impl ProbeEstimate {
    /// Seconds of the whole pass.
    pub fn seconds(&self) -> f64 {
        self.decoding_s + self.features_s
    }

    /// Memory of the probe, in bytes; `None` if the system does not report it.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.peak_memory_bytes.map(|peak| peak + self.kept_bytes)
    }
}

/// Decodes a few pictures and works out features of noise, for about `limit`, and estimates the cost of a probe from
/// them. `plan` is one of a probe.
///
/// # Errors
///
/// [`RunError`]: the device cannot compute in the recipe's precision, or the weights cannot be loaded.
pub fn estimate_probe(
    plan: &Plan,
    device: &Selected,
    limit: Duration,
) -> Result<ProbeEstimate, RunError> {
    const DECODED: usize = 16;
    /// Of the number of a feature: f32 as it is read, and standardised.
    const BYTES: u64 = 4 + 4;
    let train = &plan.splits.train;
    let every = train.len().div_ceil(DECODED).max(1);
    let few: Vec<Sample> = train.iter().step_by(every).cloned().collect();
    let options = PicturesOptions {
        cache_mb: plan.recipe.data.cache_mb,
        ..PicturesOptions::default()
    };
    let began = Instant::now();
    let (dataset, preprocess) = (&plan.dataset, &plan.preprocess);
    load(
        dataset,
        &few,
        preprocess,
        &options,
        &Stop::default(),
        &mut |_| {},
    )?;
    let decoding_s = began.elapsed().as_secs_f64() / few.len().max(1) as f64;
    let views = match plan.recipe.init.probe {
        Some(ProbeViews::Mirror) => 2,
        _ => 1,
    };
    let [train, val] = [train.len(), plan.splits.val.len()];
    let pictures = views * train + val;
    let precision = precision(&plan.recipe, device)?;
    let model = backbone(plan, device)?;
    let batch = plan.recipe.train.batch_size.min(pictures).max(1);
    let cost = cost_of_features(
        &model,
        &plan.model,
        batch,
        precision,
        &device.device,
        limit.saturating_sub(began.elapsed()),
    );
    let width = plan.model.width();
    let size = plan.preprocess.image_size as u64;
    let cache_bytes = plan.recipe.data.cache_mb as u64 * 1024 * 1024;
    let decoded = |pictures: usize| (3 * size * size * pictures as u64).min(cache_bytes);
    Ok(ProbeEstimate {
        width,
        views,
        pictures,
        decoded: few.len(),
        decoding_s: decoding_s * (train + val) as f64,
        measured_pictures: cost.measured,
        features_s: cost.seconds / batch as f64 * pictures as f64,
        peak_memory_bytes: cost.peak_memory_bytes,
        kept_bytes: decoded(train) + decoded(val) + BYTES * (pictures * width) as u64,
    })
}

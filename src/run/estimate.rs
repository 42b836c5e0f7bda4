//! What a training will cost, judged by one update.

use super::devices::{Devices, precision};
use super::error::RunError;
use super::pictures::kept_bytes;
use super::plan::Plan;
use super::train::measure_update;
use crate::device;
use crate::train::Budget;

/// What a training will take here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Seconds of one update, timed here, on pictures of full size with all their tokens.
    pub update_s: f64,
    /// Mean work of an update under the curriculum, as a share of that one's.
    pub work: f64,
    /// Updates of the whole training.
    pub updates: f64,
    /// Seconds of the whole training, validation not counted.
    pub training_s: f64,
    /// Floating-point operations of an update, on average.
    pub flops_per_update: u64,
    /// Bytes of memory at the peak of that update; `None` where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// Bytes of decoded pictures that are kept beside it.
    pub pictures_bytes: u64,
}

impl Estimate {
    /// Bytes of memory of the whole training; `None` where the system does not tell.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.peak_memory_bytes
            .map(|peak| peak + self.pictures_bytes)
    }
}

/// Carries out one update of noise, and judges by it what the training of a plan will take.
///
/// # Errors
///
/// [`RunError`]: the device cannot compute in the recipe's precision, or the teacher cannot be loaded.
pub fn estimate<'a>(plan: &Plan, devices: impl Into<Devices<'a>>) -> Result<Estimate, RunError> {
    let devices = devices.into();
    let recipe = &plan.recipe;
    let update_s = measure_update(plan, precision(recipe, devices.student)?, devices)?;
    let budget = recipe.budget()?;
    let work = plan.curriculum.mean_work(matches!(budget, Budget::Time(_)));
    let mean_update_s = work * update_s;
    let batch = recipe.train.batch_size.min(plan.splits.train.len());
    let updates_per_epoch = (plan.splits.train.len() / batch.max(1))
        .max(1)
        .div_ceil(recipe.train.accumulate);
    let updates = match budget {
        Budget::Epochs(n) => (n * updates_per_epoch) as f64,
        Budget::Steps(n) => n as f64,
        Budget::Time(t) => t.as_secs_f64() / mean_update_s,
    };
    let cache_bytes = recipe.data.cache_mb as u64 * 1024 * 1024;
    let pictures_bytes = kept_bytes(plan)
        .map(|bytes| bytes.min(cache_bytes))
        .iter()
        .sum();
    Ok(Estimate {
        update_s,
        work,
        updates,
        training_s: updates * mean_update_s,
        flops_per_update: plan.flops_per_update(work).round() as u64,
        peak_memory_bytes: device::peak_memory_bytes(),
        pictures_bytes,
    })
}

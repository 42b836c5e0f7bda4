//! The cost of a training, estimated from one update.

use super::devices::{Devices, precision};
use super::error::RunError;
use super::pictures::kept_bytes;
use super::plan::Plan;
use super::train::measure_update;
use crate::device;
use crate::train::Budget;

/// The estimated cost of a training on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Seconds of one update on pictures of full size with all their tokens, measured.
    pub update_s: f64,
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

/// Runs one update on noise and estimates the cost of the whole training from it.
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
    let updates_per_epoch = (plan.splits.train.len() / plan.batch_size().max(1))
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
